"""Training by several processes at once, on one machine or on many, with TensorFlow or JAX.

Each process takes its part of every batch and the gradients are summed over all of them, so that
the result is that of one process with the whole batch; but for `MobileFPN` on TensorFlow, whose
batch normalization is each device's own there. `training.cluster` tells which processes
these are. The devices of one process need nothing of this: build and compile a model in
`tf.distribute.MirroredStrategy().scope()`, and `fit` it.
"""

import contextlib
import functools
import re
import signal
import threading
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from keras_lapkl._support import console
from keras_lapkl._support.app import UnfinishedError
from keras_lapkl.models.localizer import LandmarkLocalizer
from keras_lapkl.training import cluster, meeting

BACKENDS = ("tensorflow", "jax")


@functools.cache
def join() -> Any:
    """Meets the other processes of `cluster.find()`; None if this one trains alone.

    To be called before TensorFlow or JAX does anything else. The first call returns when all have
    come; until then it says every minute who is missing, and SIGTERM and Ctrl-C end it.

    Returns:
        `tf.distribute.MultiWorkerMirroredStrategy`, on JAX `keras.distribution.DataParallel`, or
        None.

    Raises:
        ValueError: as `cluster.find`; or Keras's backend is none of `BACKENDS`; or the first
            process was given other addresses.
        OSError: the port of this process is in use.
        UnfinishedError: another process has ended meanwhile.

    Example:

    >>> distributed.join()
    >>> with distributed.scope():
    ...     model = build(recipe, crops)
    >>> distributed.fit(model, batches, steps_per_epoch=100, epochs=40)
    """
    backend = keras.backend.backend()
    if backend not in BACKENDS:
        raise ValueError(
            f"Training needs Keras on {' or '.join(BACKENDS)}: set KERAS_BACKEND to one of them. "
            f"Received: {backend}"
        )
    if backend == "jax":
        tf.config.set_visible_devices([], "GPU")  # TensorFlow reads the data: the GPUs are JAX's
    found = cluster.find()
    if found is None:
        logging.info("One process: neither TF_CONFIG nor SLURM tells of others.")
        return None
    logging.info("%s. Waiting for all of them.", found)
    meeting.meet(found, listens=backend == "tensorflow")
    with _peers(), _signals_later():
        return _joined_by_jax(found) if backend == "jax" else _joined_by_tensorflow(found)


def _joined_by_jax(found):
    keras.distribution.initialize(",".join(found.addresses), len(found.addresses), found.index)
    return keras.distribution.DataParallel(auto_shard_dataset=False)


def _joined_by_tensorflow(found):
    tf.get_logger().setLevel("WARNING")  # else it tells of each sum that it plans
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": list(found.addresses)}), "", "worker", found.index
    )
    with console.held_stderr():
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)


@contextlib.contextmanager
def _signals_later():
    """Has SIGTERM and Ctrl-C wait for the end of a short task that needs all processes.

    One that ended in the midst of it would leave the others waiting where they heed no signal.
    """
    if threading.current_thread() is not threading.main_thread():  # Python gives it no signals
        yield
        return
    came = []
    both = signal.SIGTERM, signal.SIGINT
    before = {each: signal.signal(each, lambda number, _: came.append(number)) for each in both}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def scope() -> contextlib.AbstractContextManager[Any]:
    """What is to train in all processes is built or loaded in this; in one process, anywhere."""
    joined = join()
    return contextlib.nullcontext() if joined is None else joined.scope()


def replicas() -> int:
    """Devices of all processes, among which each batch is divided."""
    joined = join()
    if joined is None or isinstance(joined, tf.distribute.Strategy):
        return (joined or tf.distribute.get_strategy()).num_replicas_in_sync
    return _context().num_replicas_in_sync


def is_chief() -> bool:
    """Whether this process is the one to write files: the first of all, or the only one."""
    joined = join()
    if isinstance(joined, tf.distribute.Strategy):
        return joined.extended.should_checkpoint
    return joined is None or _context().input_pipeline_id == 0


def any_process(here: bool) -> bool:
    """Whether something is so in any of the processes, all of which ask this at once."""
    joined = join()
    if joined is None:
        return here
    with _peers():
        if isinstance(joined, tf.distribute.Strategy):
            return bool(_sum_of_all(tf.constant(float(here))) > 0)
        from jax.experimental import multihost_utils

        return bool(multihost_utils.process_allgather(np.array(here)).any())


def all_gather(data: bytes) -> list[bytes]:
    """What each of the processes gives, all of which ask this at once, in their order."""
    joined = join()
    if joined is None:
        return [data]
    with _peers():
        lengths = [int(length) for (length,) in _rows(np.array([len(data)]))]
        rows = _rows(np.frombuffer(data.ljust(max(lengths), b"\0"), np.uint8))
    return [row[:length].tobytes() for row, length in zip(rows, lengths, strict=True)]


def _rows(values):
    """Small whole numbers of each process, equally many, stacked."""
    joined = join()
    if not isinstance(joined, tf.distribute.Strategy):
        from jax.experimental import multihost_utils

        return np.asarray(multihost_utils.process_allgather(values))
    resolver = joined.cluster_resolver
    count = resolver.cluster_spec().num_tasks("worker")
    placed = np.zeros((count, len(values)), np.float32)
    placed[resolver.task_id] = values
    # Each device of a process gives the same.
    summed = _sum_of_all(tf.constant(placed)).numpy() * (count / replicas())
    return np.rint(summed).astype(values.dtype)


def wait() -> None:
    """Returns when all processes have come here."""
    any_process(False)


def fit(
    model: LandmarkLocalizer,
    batches: "tf.data.Dataset[Any]",
    validation_data: "tf.data.Dataset[Any] | None" = None,
    **kwargs: Any,
) -> Any:
    """`model.fit` by all processes together; by one alone, just `model.fit`.

    On TensorFlow, what Keras does in `model.fit` fails between processes. To evaluate or predict
    with the model afterwards, save it in the chief, and load it there outside of `scope()`.

    Args:
        model: built and compiled in `scope()`.
        batches: tf.data.Dataset of whole batches, the same in each process.
        validation_data: tf.data.Dataset of known length. Each device measures on all of it, and
            means stay what they are.
        kwargs: as in `model.fit`. A callback that writes is for the chief alone; one that can stop
            the training, for all.

    Raises:
        ValueError: the batches can't be divided evenly among the devices.
        UnfinishedError: another process has ended.
    """
    joined = join()
    if joined is None:
        return model.fit(batches, validation_data=validation_data, **kwargs)
    _check_divisible(batches, replicas())
    if not isinstance(joined, tf.distribute.Strategy):
        with joined.scope(), _peers():
            parts = _joined(part(batches, _context()))
            if validation_data is not None:
                length = tf.data.experimental.assert_cardinality(validation_data.cardinality())
                validation_data = _joined(whole(validation_data, _context())).apply(length)
            return model.fit(parts, validation_data=validation_data, **kwargs)
    parts = joined.distribute_datasets_from_function(functools.partial(part, batches))
    if validation_data is not None:
        kwargs["validation_steps"] = int(validation_data.cardinality())
        validation_data = joined.distribute_datasets_from_function(
            functools.partial(whole, validation_data)
        )
    with _steps_by_all(model, joined), _peers():
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


def _joined(parts):
    """What `part` or `whole` gives to the devices of this process, as one batch, on JAX."""
    context = _context()
    here = context.num_replicas_in_sync // context.num_input_pipelines

    def flat(*parts):
        return tf.nest.map_structure(lambda x: tf.concat(tf.unstack(x, here), 0), parts)

    return parts.batch(here, drop_remainder=True).map(flat)


def check_batch_size(size: int) -> None:
    """Refuses a batch of faces that several processes can't share, before all else is done.

    Raises:
        ValueError: it can't be divided evenly among their devices.
    """
    if join() is not None:
        _refuse_uneven({size}, replicas())


def _check_divisible(batches, devices):
    _refuse_uneven({spec.shape[0] for spec in tf.nest.flatten(batches.element_spec)}, devices)


def _refuse_uneven(sizes, devices):
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


@functools.cache
def _context():
    """Place of this process among the others, and the devices of all, on JAX."""
    import jax

    return tf.distribute.InputContext(jax.process_count(), jax.process_index(), jax.device_count())


@tf.function(autograph=False)
def _sum_of_all(value):
    spread = join()
    return spread.reduce("SUM", spread.run(tf.identity, args=(value,)), axis=None)


@contextlib.contextmanager
def _peers():
    """Tells in words that another process has ended, which ends a step in all of them."""
    try:
        yield
    except Exception as error:
        if not _tells_of_a_peer(error):
            raise
        logging.warning("%s", " ".join(str(error).split())[:500])
        raise UnfinishedError(
            "Another process of this training has ended. The same command, in all of them, goes on "
            "from the last checkpoint."
        ) from error


def _tells_of_a_peer(error):
    """By its kind. Others, such as too little memory, would come again."""
    if isinstance(error, tf.errors.OpError):
        return isinstance(
            error,
            tf.errors.UnavailableError
            | tf.errors.AbortedError
            | tf.errors.CancelledError
            | tf.errors.DeadlineExceededError,
        )
    if keras.backend.backend() != "jax":
        return False
    import jax

    # One kind with the code as its first word; Gloo's, of sockets, have none of their own.
    return isinstance(error, jax.errors.JaxRuntimeError) and bool(
        re.match("(UNAVAILABLE|ABORTED|CANCELLED|DEADLINE_EXCEEDED)|.*[Gg]loo", str(error), re.S)
    )
