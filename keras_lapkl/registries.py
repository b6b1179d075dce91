"""Losses, optimizers and face detectors by the names that recipes and flags take.

One line for each: where it is, as `"module:name"`, so that the names are known without importing
Keras or OpenCV. Networks are in `models.networks`, schedules in `training.schedules`, data sets in
`data.datasets`, quantization modes in `export.modes`.
"""

from typing import Any, Protocol

from keras_lapkl._support.registry import Registry


class Loss(Protocol):
    """What stands in `LOSSES`: a class of losses on heatmap logits, a `keras.losses.Loss`.

    Called with `beta`, and with `target_scale` if it takes one, it gives a loss from labels
    (B, K, 2|3) in pixels (x, y and, if there are three, visibility) and logits to one number.
    Logits are maps (B, H, W, K), or two axes of them as `heatmaps.join_axes` makes them; both are
    read by `heatmaps.decode_logits`. It is registered as serializable, so that a saved model loads.
    """

    beta: float
    """Inverse temperature of the softmax, > 0; the localizer that it trains has the same."""

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any: ...

    def get_config(self) -> dict: ...


class MakesOptimizer(Protocol):
    """What stands in `OPTIMIZERS`: from a learning rate to a Keras optimizer."""

    def __call__(self, learning_rate: Any) -> Any:
        """`learning_rate` is a float or a `keras.optimizers.schedules.LearningRateSchedule`."""


class NamedDetector(Protocol):
    """What an entry of `DETECTORS` makes: a `detection.detections.FaceDetector` of known settings.

    Its detections have scores. It can be pickled, for the processes of `lapkl crop`, and `str` of
    it says in words what finds the faces.
    """

    @property
    def default_workers(self) -> int | None:
        """How many processes to run it in; None for one on each core."""

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what is found, as plain data: kept with the crops of a folder."""
        ...

    def __call__(self, photo: Any, /) -> Any:
        """The faces in a photo (H, W, 3) uint8 RGB: a list of `detection.detections.Detection`."""


class MakesDetector(Protocol):
    """What stands in `DETECTORS`: from its settings, all optional, to a face detector."""

    def __call__(self, *, min_confidence: float = ..., min_size: float = ...) -> NamedDetector:
        """Smallest score of a face, and smallest longer edge of its box in photo pixels."""
        ...


LOSSES = Registry(
    {
        "laplace_kl": "keras_lapkl.losses:LaplaceKL",
        "gaussian_kl": "keras_lapkl.losses:GaussianKL",
        "softargmax": "keras_lapkl.losses:SoftArgmaxLoss",
    }
)

ADVERSARIAL_LOSSES = ("minimax", "non_saturating")
"""What G descends beside an adversary: see `losses.generator_loss`."""

OPTIMIZERS = Registry(
    {
        "adam": "keras.optimizers:Adam",
        "muon": "keras_lapkl.optimizers:muon",
    }
)

DETECTORS = Registry(
    {
        "auto": "keras_lapkl.detection.detectors:AutoDetector",
        "blazeface": "keras_lapkl.detection.detectors:BlazeFace",
        "yunet": "keras_lapkl.detection.detectors:YuNet",
        "mtcnn": "keras_lapkl.detection.detectors:MTCNN",
    }
)
"""The face detectors that `--detector` takes, a `MakesDetector` each; see `detection.detectors`."""
