"""The training step of `AdversarialLocalizer` on TensorFlow."""

# TensorFlow's stubs are narrower than TensorFlow.
# pyright: reportArgumentType=false, reportCallIssue=false

import tensorflow as tf

from keras_lapkl.losses import discriminator_loss, generator_loss


def train_step(model, data):
    """One step of both networks, both gradients taken at the same weights; the logs."""
    batch = model.unpack(data)
    generator, discriminator = model.generator, model.discriminator
    halves = [batch.images, batch.unlabeled]
    with tf.GradientTape() as tape:
        logits = generator(tf.concat(halves, axis=0), training=True)
        # Not by slices: the gradient of each would fill a tensor as large as all logits.
        logits, unlabeled_logits = tf.split(logits, [tf.shape(half)[0] for half in halves])
        # Divided by the number of replicas, whose gradients are summed; 1 without a strategy.
        loss = model.compute_loss(
            batch.images, batch.landmarks, logits, batch.sample_weight, training=True
        )
        fake = model.generated_pairs(batch, unlabeled_logits)
    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    minimax = model.adversarial_loss == "minimax"
    with tf.GradientTape(persistent=not minimax) as discriminator_tape:
        discriminator_tape.watch(fake)
        real_logits = discriminator(model.true_pairs(batch), training=True)
        fake_logits = discriminator(fake, training=True)
        own = sum(discriminator.losses, start=0.0)  # such as regularizers
        judged = (discriminator_loss(real_logits, fake_logits) + own) / replicas
        adversarial = generator_loss(fake_logits, model.adversarial_loss)
        descended = adversarial / replicas
    gradients, fake_gradient = discriminator_tape.gradient(
        judged, (discriminator.trainable_variables, fake)
    )
    # Under minimax G descends what D ascends: the same pass through D, with the other sign.
    fake_gradient = -fake_gradient if minimax else discriminator_tape.gradient(descended, fake)

    weight = model.adversarial_weight_at(model.optimizer.iterations)
    unit = model.optimizer.scale_loss(tf.ones_like(loss))
    generator_gradients = tape.gradient(
        (loss, fake),
        generator.trainable_variables,
        output_gradients=(unit, unit * weight * fake_gradient),
    )
    for network, optimizer, slopes in (
        (generator, model.optimizer, generator_gradients),
        (discriminator, model.discriminator_optimizer, gradients),
    ):
        if network.trainable_variables:  # not if it is frozen
            optimizer.apply_gradients(zip(slopes, network.trainable_variables, strict=True))
    return model.report(
        batch, logits, loss * replicas, adversarial, weight, real_logits, fake_logits
    )
