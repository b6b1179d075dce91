"""Training by several processes at once, on one machine or on many, with TensorFlow.

Each process takes its part of every batch and the gradients are summed over all of them, so that
the result is that of one process with the whole batch. `training.launching` starts them. The
devices of one process need nothing of this: build and compile a model in
`tf.distribute.MirroredStrategy().scope()`, and `fit` it.
"""

import contextlib
import functools
import os
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from keras_lapkl._support import console
from keras_lapkl.models.localizer import LandmarkLocalizer


def strategy() -> tf.distribute.Strategy:
    """`MultiWorkerMirroredStrategy` if TF_CONFIG tells of processes, else TensorFlow's default.

    To be called before TensorFlow does anything else. What is to train in all processes is built
    or loaded in its `scope()`.

    Raises:
        ValueError: there are processes, but Keras runs on another backend.
    """
    return _processes() if os.environ.get("TF_CONFIG") else tf.distribute.get_strategy()


@functools.cache
def _processes():
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ValueError(
            f"Several processes train on the backend tensorflow. Received: KERAS_BACKEND={backend} "
            "beside TF_CONFIG. Unset one of the two."
        )
    logging.info("Waiting for the other processes of TF_CONFIG: %s", os.environ["TF_CONFIG"])
    tf.get_logger().setLevel("WARNING")  # else it tells of each sum that it plans
    with console.held_stderr():
        return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief() -> bool:
    """Whether this process is the one to write files: the first of all, or the only one."""
    return strategy().extended.should_checkpoint


def wait() -> None:
    """Returns when all processes have come here."""
    spread = strategy()

    @tf.function(autograph=False)
    def meet():
        spread.reduce("SUM", spread.run(lambda: tf.ones([])), axis=None)

    meet()


def fit(
    model: LandmarkLocalizer,
    batches: "tf.data.Dataset[Any]",
    validation_data: "tf.data.Dataset[Any] | None" = None,
    **kwargs: Any,
) -> Any:
    """`model.fit` by all processes of `strategy()` together; by one alone, just `model.fit`.

    What Keras does in `model.fit` fails between processes. To evaluate or predict with the model
    afterwards, save it in the chief, and load it there outside of the strategy's scope.

    Args:
        model: built and compiled in the scope of `strategy()`.
        batches: tf.data.Dataset of whole batches, the same in each process.
        validation_data: tf.data.Dataset of known length. Each device measures on all of it, and
            means stay what they are.
        kwargs: as in `model.fit`. A callback that writes is for the chief alone; one that can stop
            the training, for all.

    Raises:
        ValueError: the batches can't be divided evenly among the devices.
    """
    spread = strategy()
    if not isinstance(spread, tf.distribute.MultiWorkerMirroredStrategy):
        return model.fit(batches, validation_data=validation_data, **kwargs)
    _check_divisible(batches, spread.num_replicas_in_sync)
    parts = spread.distribute_datasets_from_function(functools.partial(part, batches))
    if validation_data is not None:
        kwargs["validation_steps"] = int(validation_data.cardinality())
        validation_data = spread.distribute_datasets_from_function(
            functools.partial(whole, validation_data)
        )
    with _steps_by_all(model, spread):
        return model.fit(parts, validation_data=validation_data, **kwargs)


def part(
    batches: "tf.data.Dataset[Any]", context: tf.distribute.InputContext
) -> "tf.data.Dataset[Any]":
    """The parts of whole batches that go to the devices of one process, one after the other.

    Args:
        batches: tf.data.Dataset; each tensor of its elements has the faces along its first axis.
        context: `tf.distribute.InputContext` of the process.
    """
    here = context.num_replicas_in_sync // context.num_input_pipelines
    first = here * context.input_pipeline_id

    def deal(*batch):
        def take(faces):
            shares = tf.split(faces, context.num_replicas_in_sync)
            return tf.stack(shares[first : first + here])

        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(take, batch))

    return batches.flat_map(deal).prefetch(2)


def whole(
    batches: "tf.data.Dataset[Any]", context: tf.distribute.InputContext
) -> "tf.data.Dataset[Any]":
    """Each batch once for each device of one process."""
    here = context.num_replicas_in_sync // context.num_input_pipelines

    def copies(*batch):
        return tf.data.Dataset.from_tensors(batch).repeat(here)

    return batches.flat_map(copies)


def _check_divisible(batches, devices):
    sizes = {spec.shape[0] for spec in tf.nest.flatten(batches.element_spec)}
    if any(size is None or size % devices for size in sizes):
        raise ValueError(
            f"A batch is divided among {devices} devices: its size must be a multiple of that, and "
            f"known (`drop_remainder=True`). Received: {', '.join(map(str, sizes))}"
        )


@contextlib.contextmanager
def _steps_by_all(model, spread):
    """Puts steps that work between processes in the place of those of Keras's trainer."""
    model.train_function = _by_all(model.train_step, spread)
    model.test_function = _by_all(model.test_step, spread)
    # Where it sees a strategy, Keras averages the images of a first batch, and fails.
    model._distribute_strategy = None
    try:
        yield
    finally:
        model._distribute_strategy = spread
        model.train_function = model.test_function = None


def _by_all(step, spread):
    """A step on a distributed iterator: every device takes it on its part; their mean logs."""

    def averaged(batch):
        logs = step(batch)
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, logs)

    @tf.function(reduce_retracing=True)
    def run(iterator):
        logs = spread.run(averaged, args=(next(iterator),))
        return {name: spread.experimental_local_results(v)[0] for name, v in logs.items()}

    return run
