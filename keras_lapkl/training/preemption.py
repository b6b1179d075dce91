"""SIGTERM while a model trains: it ends after a step, when all processes know."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
from numpy.typing import NDArray

from keras_lapkl.training import distributed


class PreemptedError(Exception):
    """A process got SIGTERM: the model is as it was after a step that all processes have taken."""


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Within it SIGTERM ends nothing; what it gives tells whether one has come.

    Outside of the main thread, where Python gives no signals, nothing changes.
    """
    came = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield came.is_set
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: came.set())
    try:
        yield came.is_set
    finally:
        signal.signal(signal.SIGTERM, before)


class StopTogether(keras.callbacks.Callback):
    """Ends `fit` in all processes after the same step, once one of them was asked to.

    The last step of an epoch is followed by its end, with validation and checkpoint; after the
    last epoch nothing is left to be stopped, unless more follows. To be the last of the callbacks.

    Args:
        asked: whether this process was asked.
        more_follows: whether others train after this one, as students do after a teacher.

    Raises:
        PreemptedError: in `fit`.
    """

    async_safe = True  # it reads no logs: fit on JAX need not wait for them

    def __init__(self, asked: Callable[[], bool], more_follows: bool = False) -> None:
        super().__init__()
        self._asked = asked
        self._more_follows = more_follows
        self._agreed = False

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._agree()
        if self._agreed and batch + 1 < self.params["steps"]:
            raise PreemptedError

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if epoch + 1 == self.params["epochs"]:
            if not self._more_follows:
                return
            self._agree()  # a signal while it was validated is the last chance
        if self._agreed:
            raise PreemptedError

    def _agree(self):
        self._agreed = self._agreed or distributed.any_process(self._asked())


def means(model: keras.Model) -> list[NDArray[Any]]:
    """State of a model's metrics, of all processes, which ask for it at once."""
    return [v.numpy() for v in model.metrics_variables]


class RestOfEpoch(keras.callbacks.Callback):
    """Ends `fit` after one epoch, of which some steps were taken before: its means have them too.

    Keras makes some metrics in the first step and empties all before it. All are sums of values
    and of weights, to which those of before are added after that step.

    Args:
        means: as `means` gave them; none adds nothing.
    """

    def __init__(self, means: list[NDArray[Any]]) -> None:
        super().__init__()
        self._means = means

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not self._means:
            return
        for variable, before in zip(self.model.metrics_variables, self._means, strict=True):
            variable.assign(variable + before)
        self._means = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = True
