"""From a photo to landmarks: find the faces, cut them out, localize, and map back to the photo."""

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any, Self

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl import confidence, pretrained
from keras_lapkl._support.threads import Lock
from keras_lapkl._support.types import PathLike
from keras_lapkl.data.cropping import (
    apply_transform,
    check_squares,
    covers_picture,
    crop_transform,
    face_square,
    invert_transform,
    is_face,
    picture_squares,
    warp_crop,
)
from keras_lapkl.detection import detections, detectors, looks
from keras_lapkl.detection.detections import Detection, FaceDetector
from keras_lapkl.detection.face import COVERAGE, Face
from keras_lapkl.loading import load_model
from keras_lapkl.tflite.localizer import Localizer, check_localizer
from keras_lapkl.tflite.runner import TFLiteLocalizer

_QUARTERS = {
    1: cv2.ROTATE_90_COUNTERCLOCKWISE,
    2: cv2.ROTATE_180,
    3: cv2.ROTATE_90_CLOCKWISE,
}


class LandmarkDetector:
    """The faces of a photo with their landmarks.

    Several threads may call one, and it can be pickled, if that holds for its localizer and its
    detector: it does for all of this package.

    Args:
        localizer: a `LandmarkLocalizer` or a `TFLiteLocalizer` that knows its scheme and crop rule.
        detector: callable from a photo (H, W, 3) uint8 RGB to a list of `detectors.Detection`, such
            as those of `keras_lapkl.detectors`; or a name of one; None if boxes are always given.
        passes: runs of the network on a face, ≥ 1: the first on the crop by the detector's box,
            each further one on the crop by the landmarks of those before, unless these are
            worth nothing: their square has less than a third or more than three times the side.
            With a calibration, passes that agree are averaged (`looks.AGREED`), and every second
            one sees the mirror image, if the scheme says how landmarks mirror. If the last two do
            not agree, there are up to two more (`looks.MORE`); if these do not either, the face's
            errors are no less than how far they are apart.
        max_side: photos with a longer side are shrunk to it for the detector, never for the
            landmarks; None for never. The detector's `min_size` counts pixels of what it sees.
        any_angle: whether the detector also looks at copies of the photo, turned by 90, 180 and 270
            degrees: True at those of each photo, False at none, None where it finds no face, or one
            that the model is unsure of.

    A face that the model is unsure of, by `Calibration.lost`, is looked at again with its gray
    levels stretched, without specks, sharpened, and at other rotations, shifts and sizes (`looks`),
    and the surest is given. Faces that it is sure of, as of 95 % of upright ones, pay nothing.

    Attributes:
        seconds: a counter of the time spent so far in `detect`, `crop` and `net`.
        left_out: a counter of the faces that were detected and not given, by reason.

    Raises:
        ValueError: a localizer that does not know its scheme, its crop rule or its size; the name
            of a face detector for what is no face; or an argument out of range.

    Example:

    >>> detect = LandmarkDetector.from_pretrained("fpn-eighth-300w")
    >>> faces = detect(photo)                       # (H, W, 3) uint8 RGB
    >>> faces[0].landmarks.shape, faces[0].radius.shape
    ((68, 2), (68,))
    """

    def __init__(
        self,
        localizer: Localizer,
        detector: FaceDetector | str | None = None,
        passes: int = 2,
        max_side: int | None = None,
        any_angle: bool | None = None,
    ) -> None:
        if localizer.scheme is None or localizer.crop_scale is None:
            raise ValueError(
                "The localizer does not say which landmarks it gives, or which crop it is right "
                "on. Set `scheme` and `crop_scale` of the Keras model, and save or convert it "
                "again."
            )
        check_localizer(localizer)
        if passes < 1:
            raise ValueError(f"`passes` must be at least 1. Received: {passes}")
        if max_side is not None and max_side < 1:
            raise ValueError(f"`max_side` must be at least 1 pixel. Received: {max_side}")
        self.localizer = localizer
        self._scheme = localizer.scheme
        if isinstance(detector, str):
            detector = _by_name(detector, self._scheme)
        self.detector = detector
        self.passes = passes
        self.max_side = max_side
        self.any_angle = _checked_choice(any_angle)
        self.seconds = collections.Counter()
        self.left_out: collections.Counter[str] = collections.Counter()
        self._counting = Lock()

    @classmethod
    def from_pretrained(
        cls,
        name: PathLike = "fpn-eighth-300w",
        detector: FaceDetector | str | None = "auto",
        num_threads: int = 1,
        **kwargs: Any,
    ) -> Self:
        """A detector with a trained model, without TensorFlow where neither of them needs it.

        Args:
            name: a shipped model's name, as `"fpn-eighth-300w"` or `"fpn-eighth-300w-int8"`, or a
                .tflite or .keras file; see `keras_lapkl.pretrained.resolve`.
            detector: as the constructor's. `"auto"` is `detectors.AutoDetector`.
            num_threads: of a .tflite file's interpreter.
            kwargs: more arguments of the constructor.

        Raises:
            FileNotFoundError: there is no such file.
            ImportError: a .keras file, and Keras is not installed.
            ValueError: no such model.
        """
        path = pretrained.resolve(name, (".tflite", ".keras"))
        if path.suffix == ".tflite":
            localizer = TFLiteLocalizer(path, num_threads)
        else:
            localizer = load_model(path)
        return cls(localizer, detector, **kwargs)

    def __call__(
        self,
        photo: ArrayLike,
        boxes: ArrayLike | None = None,
        look_around: bool = True,
        any_angle: bool | None = None,
    ) -> list[Face]:
        """The faces of one photo.

        Args:
            photo: (H, W, 3) uint8 RGB. OpenCV's functions give BGR: `cv2.cvtColor(bgr,
                cv2.COLOR_BGR2RGB)`.
            boxes: (n, 4) x0, y0, x1, y1 of face boxes in pixels of the photo; None to detect them.
            look_around: whether to look around at faces that the model is unsure of, and at turned
                copies if `any_angle` says so. Without it, which is quick, a face that the model is
                lost on is cut out in other ways alone, and one that it is `unsure` of may be
                another one that it sees in a face upside down.
            any_angle: as the constructor's, which None stands for.

        Returns:
            list of `Face`: in the order of the boxes, or from left to right. Of a model that is
            right on whole pictures the one object.

        Raises:
            ValueError: another shape, type or box, a box entirely beside the photo or in fractions
                of it, neither boxes nor a detector, boxes for a model of whole pictures, or another
                `any_angle`.
        """
        photo = detections.as_photo(photo)
        any_angle = self.any_angle if any_angle is None else _checked_choice(any_angle)
        scheme = self._scheme
        if scheme.crop_from == "image":
            if boxes is not None:
                raise ValueError("The model takes whole pictures: drop `boxes`.")
            return self.localize(photo, picture_squares(photo.shape[1::-1]))
        if boxes is not None:
            found = [detections.Detection(box) for box in detections.as_boxes(boxes)]
            detections.check_beside(found, photo)
            return self._faces(photo, found, None, look_around, recut=not look_around)
        found = self.find(photo)
        usable = self._usable(photo, found)
        with self._counting:
            self.left_out["its crop would lie beside the picture"] += len(found) - len(usable)
        faces = self._faces(photo, usable, self.detector, look_around, recut=not look_around)
        if look_around and self._looks_on(faces, any_angle):
            found = [each for quarters in (1, 2, 3) for each in self._turned(photo, quarters)]
            found = self._usable(photo, found)
            # In turned copies most is no face: one that is lost is looked for only for want of any.
            more = self._faces(photo, found, self.detector)
            if all(face.lost for face in faces + more):
                more = self._faces(photo, found, self.detector, look_around=True)
            faces = self._surest(faces + [face for face in more if not face.lost])
        return self._once(faces) if is_face(self._scheme) else faces

    def _usable(self, photo, found):
        """Detections but those at the border of which all but an edge lies beside the photo."""
        if not found:
            return []
        crops = _crops(_with_angle(self._first_squares(found, self.detector)), self.localizer)
        good = covers_picture(crops, *photo.shape[1::-1])
        return [each for each, right in zip(found, good, strict=True) if right]

    def _first_squares(self, found, detector):
        """The first square of each detection, by `detector`; None of boxes that were given."""
        if self._scheme.crop_from == "box":
            return [detections.square(each.box) for each in found]
        return detections.rotated_squares(found, self._scheme, detector)

    def _looks_on(self, faces, any_angle):
        """Whether to detect in turned copies of a photo as well."""
        if not is_face(self._scheme):
            return False
        return not faces or any(self.unsure(faces)) if any_angle is None else any_angle

    def _surest(self, faces):
        """Of those whose boxes overlap the surest face, from left to right."""
        boxes = np.array([face.box for face in faces]).reshape(-1, 4)
        kept = detections.distinct(boxes, np.array([self._sureness(face) for face in faces]))
        return sorted((faces[i] for i in kept), key=lambda face: detections.left_to_right(face.box))

    def _once(self, faces):
        """Of those whose landmarks are of one face the surest, in their order.

        A detector may find a cheek or an eye as well; the second pass goes from there to the face.
        Of a face that is upside down the model may see another in it, and be almost sure of that.
        """
        squares = [self._square(face) for face in faces]
        unsure = self.unsure(faces)

        def are_one(i, k):
            if squares[i] is None or squares[k] is None:
                return False
            opposed = unsure[i] and math.cos(faces[i].angle - faces[k].angle) < 0
            return detections.are_same(squares[i], squares[k], reach=1.0 if opposed else 0.5)

        kept = []
        for i in np.argsort([-self._sureness(face) for face in faces], kind="stable"):
            if not any(are_one(i, k) for k in kept):
                kept.append(i)
        return [faces[i] for i in sorted(kept)]

    def _sureness(self, face):
        """Higher where the landmarks are surer, or without a calibration the detector."""
        if self.localizer.calibration is None:
            return face.score or 0.0
        return -relative_errors([face])[0]

    def _faces(self, photo, found, detector, look_around=False, recut=False):
        """The faces of detections, by `detector`; None of boxes that were given."""
        squares = self._first_squares(found, detector)
        passes = 1 if self._scheme.crop_from == "box" else self.passes
        faces = self.localize(photo, squares, passes, look_around, recut)
        return [
            dataclasses.replace(face, box=each.box, score=each.score)
            for face, each in zip(faces, found, strict=True)
        ]

    def find(self, photo: ArrayLike) -> list[Detection]:
        """What the face detector finds in a photo: `detectors.Detection`s from left to right.

        Raises:
            ValueError: there is no detector, it gave a box entirely beside the photo, or the photo
                is of another shape or type.
        """
        photo = detections.as_photo(photo)
        if self.detector is None:
            raise ValueError("Without a detector, say by `boxes` where the faces are.")
        with self._timed("detect"):
            ratio = (self.max_side or np.inf) / max(photo.shape[:2])
            if ratio >= 1:
                found = list(self.detector(photo))
            else:
                height, width = (max(1, round(ratio * side)) for side in photo.shape[:2])
                small = cv2.resize(photo, (width, height), interpolation=cv2.INTER_AREA)
                ratios = np.array(photo.shape[1::-1]) / (width, height)
                found = [_enlarged(each, ratios) for each in self.detector(small)]  # pyright: ignore[reportArgumentType]  OpenCV does not tell its types
        detections.check_beside(found, photo)
        return sorted(found, key=lambda each: detections.left_to_right(each.box))

    def _turned(self, photo, quarters):
        """As `find`, in a copy turned by quarters to the left; in pixels of the photo."""
        height, width = photo.shape[:2]
        found = self.find(cv2.rotate(photo, _QUARTERS[quarters]))  # pyright: ignore[reportArgumentType]  OpenCV does not tell its types
        return [detections.turned_back(each, quarters, width, height) for each in found]

    def localize(
        self,
        photo: ArrayLike,
        squares: ArrayLike,
        passes: int = 1,
        look_around: bool = False,
        recut: bool = False,
    ) -> list[Face]:
        """The faces in known squares.

        Args:
            photo: (H, W, 3) uint8 RGB.
            squares: (n, 3) center x, center y and longer edge of the five points' box in pixels of
                the photo, as `crop_squares(…, crop_scale=1)` gives them from landmarks; or (n, 4)
                with the angle, as `face_square` gives them.
            passes: runs of the network on each face, as the constructor's; from the second on, the
                crop is rotated as the face is.
            look_around: whether to look again at a face that the model is unsure of: with its gray
                levels stretched, without specks, sharpened, and at other rotations, shifts and
                sizes of its square. Only of faces.
            recut: whether to look again at a face that the model is lost on, in the same square:
                with its gray levels stretched, without specks, and sharpened. Only of faces.

        Returns:
            list of n `Face`.

        Raises:
            ValueError: another shape or type; a square without extent, not finite, or whose crop
                has no pixel of the photo.
        """
        photo = detections.as_photo(photo)
        squares = np.asarray(squares, np.float64)
        if not squares.size:
            return []
        squares = _with_angle(squares)
        localizer = self.localizer
        check_squares(_crops(squares, localizer), *photo.shape[1::-1])
        faces = self._localize(photo, squares, passes)
        if is_face(self._scheme):
            for i in np.flatnonzero(self.unsure(faces)):
                if look_around:
                    faces[i] = self._look_around(photo, squares[i], faces[i], looks.RINGS)
                elif recut and faces[i].lost:
                    faces[i] = self._look_around(photo, squares[i], faces[i])
        return faces

    def _look_around(self, photo, square, face, rings=()):
        """The surest of what is found at the square of a face, and in rings around it."""
        found = [face]
        for cut in looks.CUTS:
            found += self._localize(photo, square[None], 2, cut)
            if not self.unsure(found[-1:])[0]:
                return found[-1]
        errors = relative_errors(found)
        face = found[int(np.argmin(errors))]
        # In the other cuts faces that are rotated get worse.
        cut = looks.CUTS[0] if errors[1] < errors[0] else warp_crop
        picture = photo.shape[1::-1]
        for ring in rings:
            squares = looks.squares_around(square, ring)
            squares = squares[covers_picture(_crops(squares, self.localizer), *picture)]
            first = self._look(photo, squares, cut) if len(squares) else []
            kept = np.argsort(relative_errors(first))[: looks.KEPT]
            found = [face, *self._go_on(photo, [first[i] for i in kept], squares[kept], 2, cut)]
            face = found[int(np.argmin(relative_errors(found)))]
            if not face.lost:
                break
        return face

    def _square(self, face):
        """The square by the landmarks of a face; None where they give none."""
        with contextlib.suppress(ValueError):  # all landmarks in one point, or not finite
            return face_square(face.landmarks, self._scheme)
        return None

    def unsure(self, faces: Sequence[Face]) -> NDArray[np.bool_]:
        """Which faces may be lost, or upside down: their expected errors are nearly so large.

        Returns:
            (n,) bool; all False if the calibration of the model does not tell.

        Example:

        >>> detect.unsure(detect(photo))
        array([False])
        """
        calibration = self.localizer.calibration
        if calibration is None or calibration.lost is None:
            return np.zeros(len(faces), bool)
        return relative_errors(faces) > looks.UNSURE * calibration.lost

    def _localize(self, photo, squares, passes, cut=warp_crop):
        """As `localize`, of squares (n, 4), n ≥ 1, that were checked, cut out by `cut`."""
        return self._go_on(photo, self._look(photo, squares, cut), squares, passes, cut)

    def _go_on(self, photo, faces, squares, passes, cut):
        """Faces after all their passes, from what the first found in their squares (n, 4)."""
        calibration = self.localizer.calibration
        most = passes + looks.MORE if passes > 1 and calibration is not None else passes
        faces, left = list(faces), np.arange(len(faces))  # whose passes do not agree yet
        for i in range(1, most):
            if not len(left):
                break
            before = [faces[k] for k in left]
            squares = _next_squares(before, squares, self._scheme)
            mirrored = calibration is not None and i % 2 == 1
            after = self._look(photo, squares, cut, mirrored)
            agree = np.zeros(len(left), bool)
            for k, face in enumerate(after):
                if calibration is not None:
                    face, agree[k] = _joined(before[k], face, calibration)
                faces[left[k]] = face
            if i >= passes - 1:
                left, squares = left[~agree], squares[~agree]
        return faces

    def _look(self, photo, squares, cut, mirrored=False):
        """The faces in squares (n, 4), n ≥ 1, by one pass, on mirror images where that is known."""
        localizer = self.localizer
        size = localizer.image_size
        mirror = list(self._scheme.flip) if mirrored and self._scheme.flip is not None else None
        boxes = _crops(squares, localizer)
        with self._timed("crop"):
            transforms = crop_transform(boxes, size)
            crops = np.stack([cut(photo, each, size) for each in transforms])
            crops = crops if mirror is None else np.ascontiguousarray(crops[:, :, ::-1])
        with self._timed("net"):
            found = localizer.predict(crops, verbose=0)
        if mirror is not None:
            found = {name: found[name][:, mirror] for name in ("landmarks", "scale")}
            found["landmarks"] = (size - 1, 0) - found["landmarks"] * (1, -1)
        landmarks = apply_transform(invert_transform(transforms), found["landmarks"])
        pixels = boxes[:, 2] / size
        cos, sin = np.cos(boxes[:, 3]) ** 2, np.sin(boxes[:, 3]) ** 2
        rotated = np.stack([np.stack([cos, sin], -1), np.stack([sin, cos], -1)], -1)
        scale = np.sqrt(np.square(found["scale"], dtype=np.float64) @ rotated)
        scale *= pixels[:, None, None]
        error = radius = lost = [None] * len(boxes)
        calibration = localizer.calibration
        if calibration is not None:
            error = calibration.error(found["scale"]) * pixels[:, None]
            if COVERAGE in calibration.quantiles:
                radius = calibration.radius(found["scale"], COVERAGE) * pixels[:, None]
            lost = [_is_lost(*each, calibration) for each in zip(landmarks, error, strict=True)]
        parts = zip(landmarks, scale, boxes[:, :3], error, radius, strict=True)
        return [
            Face(*each, angle=float(angle), lost=gone)
            for each, angle, gone in zip(parts, boxes[:, 3], lost, strict=True)
        ]

    @contextlib.contextmanager
    def _timed(self, part):
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        with self._counting:
            self.seconds[part] += seconds  # pyright: ignore[reportArgumentType]  a counter of floats


def _checked_choice(any_angle):
    if any_angle not in (None, True, False):
        raise ValueError(f"`any_angle` must be True, False or None. Received: {any_angle!r}")
    return any_angle


def _by_name(name, scheme):
    """A face detector; None where the whole picture is cut out."""
    if scheme.crop_from == "image":
        return None
    if scheme.eye_corners is None:
        raise ValueError(
            f"{scheme.name} is no face, for its scheme has no `eye_corners`: a face detector can't "
            "find it. Give its boxes, --boxes=boxes.csv of `lapkl predict`; or in Python "
            "`detector=None` and boxes, or a detector of your own."
        )
    return detectors.from_name(name)


def _with_angle(squares):
    """Squares (n, 3) or (n, 4) as (n, 4)."""
    squares = np.atleast_2d(squares)
    if squares.ndim != 2 or squares.shape[1] not in (3, 4):
        raise ValueError(f"Expected squares (n, 3) or (n, 4). Received: {squares.shape}")
    return squares if squares.shape[1] == 4 else np.column_stack([squares, np.zeros(len(squares))])


def _crops(squares, localizer):
    """What is cut out for squares (n, 4)."""
    return squares * (1, 1, localizer.crop_scale, 1)


def relative_errors(faces):
    """`confidence.relative_error` of faces with an error, (n,); infinite where it is not finite."""
    if not faces:
        return np.empty(0)
    landmarks, error = (
        np.stack([getattr(f, name) for f in faces]) for name in ("landmarks", "error")
    )
    return np.nan_to_num(confidence.relative_error(landmarks, error), nan=np.inf)


def _enlarged(detection, ratios):
    """A detection in a shrunk photo, in pixels of the photo."""

    def enlarged(points):
        # Pixel centers are at whole numbers: the photo's corner is at -0.5.
        return (np.reshape(points, (-1, 2)) + 0.5) * ratios - 0.5

    points = detection.points
    return dataclasses.replace(
        detection,
        box=enlarged(detection.box).ravel(),
        points=None if points is None else enlarged(points),
    )


def _joined(before, after, calibration):
    """What two passes give of a face, and whether they agree.

    The later one: with the mean of the landmarks if they agree; if not, with errors that are no
    less than how far the landmarks are apart.
    """
    apart = np.linalg.norm(after.landmarks - before.landmarks, axis=-1)
    landmarks, error, radius = after.landmarks, after.error, after.radius
    agree = bool(apart.mean() <= looks.AGREED * error.mean() < np.inf)
    if agree:
        landmarks = (before.landmarks + landmarks) / 2
    else:
        error = np.maximum(error, apart)
        radius = None if radius is None else radius * error / np.maximum(after.error, 1e-9)
    lost = _is_lost(landmarks, error, calibration)
    parts = {"landmarks": landmarks, "error": error, "radius": radius, "lost": lost}
    return dataclasses.replace(after, **parts), agree


def _is_lost(landmarks, error, calibration):
    """Whether landmarks (K, 2) are lost, by their expected errors (K,); None if it is not known."""
    if calibration.lost is None:
        return None
    # Not as `> lost`: what is not finite is lost too.
    return not confidence.relative_error(landmarks, error) <= calibration.lost


def _next_squares(faces, squares, scheme):
    """The squares by the landmarks; the old one where these give none, or one of another size."""
    found = squares.copy()
    for i, face in enumerate(faces):
        with contextlib.suppress(ValueError):  # all landmarks in one point, or not finite
            square = face_square(face.landmarks, scheme)
            if 1 / looks.RESIZED <= square[2] / squares[i, 2] <= looks.RESIZED:
                found[i] = square
    return found
