"""What evaluation and detection ask of a localizer, be it a .tflite file or a Keras model."""

from typing import Any, Protocol

from numpy.typing import NDArray

from keras_lapkl.confidence import Calibration
from keras_lapkl.schemes import Scheme
from keras_lapkl.training_data import TrainingData


class Localizer(Protocol):
    """Landmarks and their scales from square crops: `TFLiteLocalizer`, `LandmarkLocalizer`.

    Attributes:
        num_landmarks: K.
        image_size: side of the crop in pixels; None if any will do.
        scheme: which K landmarks; None if unknown.
        crop_scale: crop rule that it is right on; None if unknown.
        trained_on: one line on the training faces; None if unknown.
        training_data: the same as data.
        calibration: of its scales; None if unknown.

    Example:

    >>> def count(localizer: Localizer) -> int:
    ...     return localizer.num_landmarks
    >>> count(TFLiteLocalizer("model.tflite")), count(load_model("model.keras"))
    (68, 68)
    """

    @property
    def num_landmarks(self) -> int: ...

    @property
    def image_size(self) -> Any: ...  # int, but for a Keras network that takes any size

    @property
    def scheme(self) -> Scheme | None: ...

    @property
    def crop_scale(self) -> float | None: ...

    @property
    def trained_on(self) -> str | None: ...

    @property
    def training_data(self) -> TrainingData | None: ...

    @property
    def calibration(self) -> Calibration | None: ...

    def predict(self, images: NDArray[Any], /, *, verbose: Any = 0) -> dict[str, NDArray[Any]]:
        """Landmarks and scales of crops.

        Args:
            images: (N, S, S, 3) RGB, uint8 or float in [0, 1].
            verbose: as Keras has it.

        Returns:
            dict of `landmarks` and `scale`, each (N, K, 2) float32 in pixels of the crop, x first.
        """
        ...


def check_localizer(localizer: Localizer) -> None:
    """ValueError for what is no localizer, or one of any size: it does not say of which crops."""
    if not hasattr(localizer, "crop_scale"):
        raise ValueError(
            f"Expected a localizer. Received: a {type(localizer).__name__}, which does not say of "
            "which crops it is. Save the LandmarkLocalizer, not its network alone."
        )
    if localizer.image_size is None:
        raise ValueError(
            "The model takes images of any size, and does not say of which side its crops are. "
            "Build its network on an input of one size, such as keras.Input((80, 80, 3))."
        )
