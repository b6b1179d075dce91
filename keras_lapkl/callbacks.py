"""Keras callbacks that this package adds to Keras's own."""

import io
import math
import os
import pathlib
import struct
import time
from typing import Any, Literal

import numpy as np
from absl import logging
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support import extras
from keras_lapkl._support.files import naming, replacing
from keras_lapkl._support.pixels import check_pixels
from keras_lapkl._support.types import PathLike
from keras_lapkl.evaluation import plots

with extras.needed_by(__name__):
    import keras
    from keras import ops

    from keras_lapkl import heatmaps
    from keras_lapkl.models.adversarial import REPORTS, AdversarialLocalizer
    from keras_lapkl.models.localizer import LandmarkLocalizer

FINITE = REPORTS[:3]
"""What must stay finite in training."""

CHANCE_LOSS = 2 * math.log(2)
"""The discriminator's loss where it answers 0.5 to everything."""

COLLAPSES = {
    "wins": "The discriminator tells true heatmaps from generated ones nearly always. Under "
    "minimax the adversarial gradient of the generator then all but vanishes: unlabeled faces "
    "teach it nothing. Lower the discriminator's learning rate or `heatmap_gain`, raise its "
    "noise, or take `non_saturating` as `adversarial_loss`; if it tells the photos apart, not the "
    "heatmaps, 0 as `image_gain`.",
    "constant": "The discriminator gives one answer to true and generated heatmaps alike: its "
    "gradient tells the generator nothing about them. Lower its learning rate; if it stays, train "
    "anew with another seed.",
    "chance": "The discriminator tells true heatmaps from generated ones no better than a coin. "
    "Either they have become alike, which is the aim; or it can't see them: raise `heatmap_gain` "
    "or its learning rate, or lower its noise.",
}
"""Ways in which a discriminator stops teaching, what each means, and what to do.

What they quote is called the same in `AdversarialLocalizer` and as a flag of `lapkl train`.
"""


class TerminateOnNaNWeights(keras.callbacks.Callback):
    """Stops a training whose weights are no longer finite, at the end of an epoch.

    A loss may not tell: where a network has a ReLU, TensorFlow makes 0 of a NaN on a CPU, and all
    that follows is finite. To stand before a `ResumableCheckpoint`, which would keep them.

    Raises:
        RuntimeError: in training, as `keras.callbacks.TerminateOnNaN(raise_error=True)` does.

    Example:

    >>> model.fit(batches, epochs=40, callbacks=[TerminateOnNaNWeights()])
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        for weight in self.model.trainable_variables:
            if not np.isfinite(ops.convert_to_numpy(weight)).all():
                raise RuntimeError(
                    f"Expected finite weights. Received: {weight.path} with NaN or infinite ones "
                    f"after epoch {epoch + 1}"
                )


class ResumableCheckpoint(keras.callbacks.Callback):
    """Saves the whole model, optimizer included, at the end of each epoch, in one rename.

    A kill or a power cut at any moment leaves a whole file. `keras_lapkl.load_model` gives the
    model back as it was, and its `optimizer.iterations` tells how many steps it has seen. It must
    not stand beside `SwapEMAWeights(swap_on_epoch=True)`, which has the averages in place of the
    weights between epochs: a training that goes on from them is another one.

    Args:
        path: a `.keras` file.
        previous: where the file of the epoch before stays, should the disk damage the last one;
            None keeps none. After a kill between two renames it is the only one.

    Raises:
        ValueError: a name that does not end in `.keras`.

    Example:

    >>> model.fit(batches, epochs=40, callbacks=[ResumableCheckpoint("run/last.keras")])
    >>> load_model("run/last.keras").optimizer.iterations
    """

    def __init__(self, path: PathLike, previous: PathLike | None = None) -> None:
        super().__init__()
        for each in (path, previous):
            if each is not None and pathlib.Path(each).suffix != ".keras":
                raise ValueError(f"Expected the name of a .keras file. Received: {each}")
        self.path = path
        self.previous = previous

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.write()

    def write(self) -> None:
        """Saves it now."""
        spread = keras.distribution.distribution()
        # `save` makes an optimizer to look at. On JAX, within a distribution over processes, it
        # would wait for all of them to make theirs, and one process alone saves.
        keras.distribution.set_distribution(None)
        try:
            with replacing(self.path, self.previous) as temporary:
                self.model.save(temporary)
        finally:
            keras.distribution.set_distribution(spread)


class DurableCSVLogger(keras.callbacks.CSVLogger):
    """Keras's `CSVLogger`, whose line is on the disk when its epoch ends; errors name the file.

    Before a `ResumableCheckpoint` in the list of callbacks, it has a line for each epoch of it.
    """

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        with naming(self.filename):
            super().on_epoch_end(epoch, logs)
            os.fsync(self.csv_file.fileno())


def collapse(
    loss: float, accuracy_real: float, accuracy_fake: float, win: float = 0.99, chance: float = 0.52
) -> Literal["wins", "constant", "chance"] | None:
    """How a discriminator has stopped teaching: a key of `COLLAPSES`, or None if it has not.

    Args:
        loss: of the discriminator, as `discriminator_loss`.
        accuracy_real, accuracy_fake: shares of the true and of the generated patches that it
            tells.
        win: share of both from which on it wins; and of one, with as little of the other, from
            which on it gives one answer to all.
        chance: mean of both shares up to which it guesses, unless its loss is below a guess's.
            Epochs of a discriminator that had learned nothing yet had 0.49 to 0.52.

    Example:

    >>> collapse(0.02, 1.0, 0.995), collapse(3.1, 1.0, 0.0), collapse(1.39, 0.6, 0.4)
    ('wins', 'constant', 'chance')
    """
    low, high = sorted((accuracy_real, accuracy_fake))
    if low >= win:
        return "wins"
    if high >= win and low <= 1 - win:
        return "constant"
    # The loss too: accuracies can be at chance where the logits are not.
    if (low + high) / 2 <= chance and loss >= 0.98 * CHANCE_LOSS:
        return "chance"
    return None


class AdversarialMonitor(keras.callbacks.Callback):
    """Stops a training that is no longer finite, and says when the discriminator stops teaching.

    A NaN or infinite loss of either network stops `fit` with an error that tells which, in which
    epoch and by which step, counted as `fit` shows them. A collapse (see `COLLAPSES`) that lasts is
    logged once as a warning, and again only if it comes back. While λ is 0, the discriminator is
    not judged. Both read what `fit` reports anyway, and on JAX no step waits for it.

    Args:
        patience: epochs that the discriminator must win, or give one answer to all, before the
            warning: in one it may do so by accident.
        chance_patience: epochs that it must guess: it starts so, and may take a while to learn.
        win, chance: accuracies, as in `collapse`.
        stop: whether to stop training with the warning.

    Raises:
        ValueError: an argument out of its range, or `fit` of a model without discriminator.
        RuntimeError: in training, a loss is NaN or infinite.

    Example:

    >>> model.fit(batches, epochs=200, callbacks=[AdversarialMonitor()])
    """

    async_safe = True  # Each step's numbers are judged alone: fit on JAX need not wait for them.

    def __init__(
        self,
        patience: int = 3,
        chance_patience: int = 10,
        win: float = 0.99,
        chance: float = 0.52,
        stop: bool = False,
    ) -> None:
        super().__init__()
        for name, value in (("patience", patience), ("chance_patience", chance_patience)):
            if value < 1:
                raise ValueError(f"`{name}` must be at least 1. Received: {value}")
        for name, value in (("win", win), ("chance", chance)):
            if not 0.5 <= value <= 1:
                raise ValueError(f"`{name}` must be from 0.5 to 1. Received: {value}")
        self.patience: dict[str, int] = {
            "wins": patience,
            "constant": patience,
            "chance": chance_patience,
        }
        self.win = win
        self.chance = chance
        self.stop = stop

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        if not isinstance(self.model, AdversarialLocalizer):
            raise ValueError(
                "AdversarialMonitor expects an AdversarialLocalizer. Received: "
                f"{type(self.model).__name__}. Use keras.callbacks.TerminateOnNaN."
            )
        self.state, self.lasting = None, 0

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        values = {name: logs[name] for name in FINITE}
        if all(map(math.isfinite, values.values())):
            return
        guilty = ", ".join(f"{k}={v}" for k, v in values.items() if not math.isfinite(v))
        network = "optimizer" if "localization" in guilty else "discriminator_optimizer"
        raise RuntimeError(
            f"Expected finite losses. Received: {guilty} in epoch {self.epoch + 1} by step "
            f"{batch + 1}. Lower the learning rate of the {network}"
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        found = None
        if float(self.model.adversarial_weight_at(self.model.optimizer.iterations)) > 0:
            loss, real, fake = (logs[name] for name in REPORTS[2:])
            found = collapse(loss, real, fake, self.win, self.chance)
        self.lasting = self.lasting + 1 if found == self.state else 1
        self.state = found
        if found is None or self.lasting != self.patience[found]:
            return
        logging.warning(
            "%s (Epochs in a row: %d, the last %d. Its loss: %.3f; accuracy on true patches: %.3f, "
            "on generated ones: %.3f.)%s",
            COLLAPSES[found],
            self.lasting,
            epoch + 1,
            loss,
            real,
            fake,
            " Training stops." if self.stop else "",
        )
        if self.stop:
            self.model.stop_training = True


def views(
    model: LandmarkLocalizer,
    images: ArrayLike,
    landmarks: ArrayLike,
    unlabeled: ArrayLike | None = None,
) -> dict[str, dict[str, NDArray[Any]]]:
    """What a model sees in labeled and in unlabeled faces, for `plots.adversarial` to draw.

    Args:
        model: a compiled `LandmarkLocalizer` or `AdversarialLocalizer`; the former has no patches.
        images: (N, S, S, 3), uint8 or float in [0, 1].
        landmarks: (N, K, 2|3) pixels. Landmarks hidden here are hidden from the discriminator in
            unlabeled faces too, as in training.
        unlabeled: (M, S, S, 3), or None.

    Returns:
        `{"labeled": arguments}`, and `"unlabeled"` if there are any. The discriminator answers as
        in training: with its noise, normalized over the faces given.

    Raises:
        ValueError: faces of another size or with another K than the model's.

    Example:

    >>> plots.adversarial(path="faces.png", **views(model, images, landmarks)["labeled"])
    """
    images, landmarks = np.asarray(images), np.asarray(landmarks)
    halves = {"labeled": images}
    if unlabeled is not None:
        halves["unlabeled"] = np.asarray(unlabeled)
    _check_faces(model, landmarks, **halves)
    seen = {}
    for name, faces in halves.items():
        logits = model(faces)
        maps = heatmaps.probabilities(logits, model.beta)
        seen[name] = {"landmarks": heatmaps.location(maps), "maps": maps}
        if isinstance(model, AdversarialLocalizer):
            batch = model.unpack(((images, faces), landmarks))
            generated_pairs = model.generated_pairs(batch, logits)
            seen[name]["patches"] = _answers(model.discriminator, generated_pairs)
            if name == "labeled":
                true_pairs = model.true_pairs(batch)
                seen[name]["true_patches"] = _answers(model.discriminator, true_pairs)
    seen["labeled"] |= {
        "labels": landmarks,
        "true_maps": model.true_heatmaps(landmarks, *images.shape[1:3]),
    }
    return {
        name: {"images": halves[name]} | {k: ops.convert_to_numpy(v) for k, v in arrays.items()}
        for name, arrays in seen.items()
    }


class TensorBoardFaces(keras.callbacks.Callback):
    """Shows in TensorBoard what a model sees in some faces: the pictures of `plots.adversarial`.

    One picture of the labeled faces and one of the unlabeled ones, at every N-th epoch, written
    beside the curves of `keras.callbacks.TensorBoard`, into a folder of their own. The steps are
    epochs, counted from 0 as there: a resumed run goes on where it stopped. It needs the extras
    `plots` and `tensorboard`, but not TensorFlow.

    Args:
        log_dir: folder; the pictures go into `log_dir/faces`. It may be that of
            `keras.callbacks.TensorBoard`.
        labeled: images (N, S, S, 3), uint8 or float in [0, 1], and landmarks (N, K, 2|3) in
            pixels. Four to eight faces are well to be seen.
        unlabeled: images (M, S, S, 3), or None.
        every: epochs from one picture to the next.

    Raises:
        ImportError: an extra is not installed.
        ValueError: `every` < 1, or in `fit` faces of another size or K than the model's.

    Example:

    >>> faces = TensorBoardFaces("logs", (images[:4], landmarks[:4]), unlabeled[:4], every=5)
    >>> model.fit(batches, callbacks=[keras.callbacks.TensorBoard("logs"), faces])
    """

    def __init__(
        self,
        log_dir: PathLike,
        labeled: tuple[ArrayLike, ArrayLike],
        unlabeled: ArrayLike | None = None,
        every: int = 1,
    ) -> None:
        super().__init__()
        if every < 1:
            raise ValueError(f"`every` must be at least 1. Received: {every}")
        # Both extras are missed now rather than after an epoch.
        self.open_writer = _event_file_writer()
        plots.figure(1, 1)
        self.log_dir = pathlib.Path(log_dir) / "faces"
        images, landmarks = labeled
        self.labeled = np.asarray(images), np.asarray(landmarks)
        self.unlabeled = None if unlabeled is None else np.asarray(unlabeled)
        self.every = every
        self.writer = None

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        images, landmarks = self.labeled
        _check_faces(self.model, landmarks, images, self.unlabeled)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if (epoch + 1) % self.every:
            return
        if self.writer is None:
            self.writer = self.open_writer(str(self.log_dir))
        for name, seen in views(self.model, *self.labeled, self.unlabeled).items():
            picture = io.BytesIO()
            plots.adversarial(path=picture, dpi=100, **seen)
            self.writer.add_event(_image_event(name, picture.getvalue(), epoch))
        self.writer.flush()

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


def _check_faces(model, landmarks, labeled, unlabeled=None):
    size = model.image_size or labeled.shape[1]  # a fully convolutional generator takes any
    for name, images in (("labeled", labeled), ("unlabeled", unlabeled)):
        if images is not None:
            check_pixels(images)
        if images is not None and (images.shape[1:] != (size, size, 3) or not len(images)):
            raise ValueError(
                f"Expected {name} images of shape (N, {size}, {size}, 3) with N ≥ 1, the model's "
                f"size. Received shape {images.shape}: crop them as the training faces."
            )
    n, k = len(labeled), model.num_landmarks
    if landmarks.shape not in ((n, k, 2), (n, k, 3)):
        raise ValueError(
            f"Expected landmarks of shape ({n}, {k}, 2|3): those of the labeled images, in the "
            f"model's scheme. Received shape {landmarks.shape}."
        )


def _answers(discriminator, pairs):
    """D's chance that each patch is true, (N, h, w); one row where it has no patches.

    As in training, where moving averages of true and generated pairs together would shift all
    answers; but its state stays, so that each call has the same noise.
    """
    logits, _ = discriminator.stateless_call(
        discriminator.trainable_variables,
        discriminator.non_trainable_variables,
        pairs,
        training=True,
    )
    chance = ops.sigmoid(logits)
    if len(chance.shape) == 4:
        return ops.mean(chance, axis=-1)
    return ops.reshape(chance, (chance.shape[0], 1, -1))


def _event_file_writer():
    """The writer of TensorBoard itself, which does without TensorFlow."""
    with extras.needed_by("TensorBoardFaces"):
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    return EventFileWriter


def _image_event(tag, png, step):
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary

    width, height = struct.unpack(">II", png[16:24])
    image = Summary.Image(width=width, height=height, colorspace=4, encoded_image_string=png)
    summary = Summary(value=[Summary.Value(tag=tag, image=image)])
    return Event(wall_time=time.time(), step=step, summary=summary)
