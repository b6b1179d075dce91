"""The training step of `AdversarialLocalizer` on JAX: stateless, as Keras's trainer needs it."""

import jax
import keras

from keras_lapkl.losses import discriminator_loss, generator_loss


def train_step(model, state, data):
    """One step of both networks, both gradients taken at the same weights.

    Args:
        model: the `AdversarialLocalizer`.
        state: values of its trainable, non-trainable, optimizer's and metrics' variables.
        data: what `fit` hands to the step.

    Returns:
        The logs, and the new state.
    """
    batch = model.unpack(data)
    generator, discriminator = model.generator, model.discriminator
    labeled = batch.images.shape[0]
    parts = (
        model.trainable_variables,
        model.non_trainable_variables,
        model.optimizer.variables,
        model.metrics_variables,
    )
    values = {
        id(variable): value
        for variables, held in zip(parts, state, strict=True)
        for variable, value in zip(variables, held, strict=True)
    }

    def read(variables):
        return [values[id(variable)] for variable in variables]

    def write(variables, new):
        values.update(zip(map(id, variables), new, strict=True))

    def generate(weights):
        images = jax.numpy.concatenate([batch.images, batch.unlabeled])
        logits, others = generator.stateless_call(
            weights, read(generator.non_trainable_variables), images, training=True
        )
        current = list(zip(generator.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=current):  # for regularizers
            loss = model.compute_loss(
                batch.images, batch.landmarks, logits[:labeled], batch.sample_weight, training=True
            )
        fake = model.generated_pairs(batch, logits[labeled:])
        return (loss, fake), (logits[:labeled], others)

    (loss, fake), back, (logits, others) = jax.vjp(
        generate, read(generator.trainable_variables), has_aux=True
    )
    write(generator.non_trainable_variables, others)
    real = model.true_pairs(batch)

    def discriminate(weights, fake):
        others = read(discriminator.non_trainable_variables)
        real_logits, others = discriminator.stateless_call(weights, others, real, training=True)
        fake_logits, others = discriminator.stateless_call(weights, others, fake, training=True)
        current = list(zip(discriminator.trainable_variables, weights, strict=True))
        with keras.StatelessScope(state_mapping=current):
            own = sum(discriminator.losses, start=0.0)  # such as regularizers
        return (
            discriminator_loss(real_logits, fake_logits) + own,
            generator_loss(fake_logits, model.adversarial_loss),
        ), (real_logits, fake_logits, others)

    (judged, adversarial), back_through, (real_logits, fake_logits, others) = jax.vjp(
        discriminate, read(discriminator.trainable_variables), fake, has_aux=True
    )
    write(discriminator.non_trainable_variables, others)
    one, zero = jax.numpy.ones_like(judged), jax.numpy.zeros_like(judged)
    gradients, fake_gradient = back_through((one, zero))
    # Under minimax G descends what D ascends: the same pass through D, with the other sign.
    if model.adversarial_loss == "minimax":
        fake_gradient = -fake_gradient
    else:
        _, fake_gradient = back_through((zero, one))

    state = [(v, values[id(v)]) for v in model.optimizer.variables]
    with keras.StatelessScope(state_mapping=state):
        weight = model.adversarial_weight_at(model.optimizer.iterations)
        unit = model.optimizer.scale_loss(jax.numpy.ones_like(loss))
    (generator_gradients,) = back((unit, unit * weight * fake_gradient))
    for network, optimizer, slopes in (
        (generator, model.optimizer, generator_gradients),
        (discriminator, model.discriminator_optimizer, gradients),
    ):
        if not network.trainable_variables:  # it is frozen
            continue
        trained, held = optimizer.stateless_apply(
            read(optimizer.variables), slopes, read(network.trainable_variables)
        )
        write(network.trainable_variables, trained)
        write(optimizer.variables, held)

    metrics = model.metrics_variables
    with keras.StatelessScope(
        state_mapping=list(zip(metrics, read(metrics), strict=True))
    ) as scope:
        logs = model.report(batch, logits, loss, adversarial, weight, real_logits, fake_logits)
    write(metrics, [scope.get_current_value(v) for v in metrics])
    return logs, tuple(read(variables) for variables in parts)
