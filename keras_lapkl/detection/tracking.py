"""Faces in video: followed from frame to frame by their landmarks, which are filtered over time."""

import collections
import copy
import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support.threads import Lock
from keras_lapkl.data.cropping import face_square
from keras_lapkl.detection.detections import are_same, as_photo
from keras_lapkl.detection.face import Face
from keras_lapkl.detection.filters import (
    SHORTEST,
    LandmarkFilter,
    OneEuroFilter as OneEuroFilter,  # public here too
    ScaleFilter,
)
from keras_lapkl.detection.first_pass import distance
from keras_lapkl.detection.landmark_detector import LandmarkDetector, relative_errors

_JUMP = 1.0  # sides from where a face was expected; the crop ends 1.5 sides from its middle
_AHEAD = 0.5  # sides that the crop may be ahead of the last landmarks
_SMALLEST = 8.0  # px, side of the five points' square: below it a face is a speck
_REMEMBERED = 1.0  # s that a face which is given up can come back with its number
_NEAR = 0.5  # sides from where it was seen last; there it may be of any size
_FASTEST = 10.0  # sides a second that it may have moved besides, which are some 0.6 m
_FARTHEST = 2.0  # sides that it may have moved
_RESIZED = 1.5  # times as large, or as small, that it may be there
_RATE = 30.0  # frames a second; of slower videos `find_every` counts time
_LOST = 1.0  # s that the model may be lost on a face before it is given up
_PAUSE = 0.15  # s from one look around to the next while a face is lost, or was given up just now
_DOUBT = 0.5  # s, where the model is unsure of what is there
_TURNED, _APART = math.pi / 4, 0.25  # radians and sides from which on it is another face


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class TrackedFace(Face):
    """A `Face` of a video. `landmarks` are filtered; all else is of this frame alone.

    Attributes:
        id: a whole number ≥ 0, the same as long as the face is followed, never given twice.
        raw: (K, 2) float64, the landmarks before the filter.

    Example:

    >>> tracker(frame, time=0.0)[0].id, tracker(next_frame, time=1 / 30)[0].id
    (0, 0)
    """

    id: int = 0
    raw: NDArray[np.float64] | None = None

    def _summary(self) -> list[str]:
        return [f"id {self.id}", *super()._summary()]

    def to_dict(self) -> dict[str, Any]:
        """As `Face.to_dict`, with the `id`."""
        return {"id": self.id, **super().to_dict()}


class LandmarkTracker:
    """Follows the faces of a video: the next crop is cut by the last landmarks.

    With a filter it is cut where these will be if the face keeps its speed.

    The face detector runs while no face is followed, for a second after one was given up, and every
    `find_every` frames to find new ones. Turned copies are looked at, and what is around a detected
    face that the model is unsure of, only every `find_every` frames; while a face is lost, for a
    second after one was given up, as often as each 0.15 s, and where there is only what the model
    is unsure of each 0.5 s. Only then a face begins that the model stays unsure of. A face that is
    followed is cut out in other ways in a frame in which the model is lost on it. If it stays
    `lost`, its landmarks are a guess, and the detector runs in each frame until it finds the face
    again; no face begins so, and after a second of it the face is given up. What the detector finds
    also corrects a face that the model is unsure of: at another place or angle, if it is surer of
    that and the size is alike. A face is given up at once where the mean scale of its landmarks
    exceeds `max_scale`; where its landmarks are not finite, or lie a side of the five points'
    square from where they were expected, or change by a factor e in size; or where that square's
    center leaves the frame or its side falls below 8 pixels. A face that is found within a second
    of one that was lost or given up is that one: within half a side of it; or, if it is up to 1.5
    times as large or small, within 10 more sides a second, two at most. Of two that have become
    one, the one that was expected nearest goes on, unless it was lost; the other one may have gone
    behind it. A frame of another size, or an earlier time, starts anew.

    A tracker is of one video, and takes its frames in their order, from one thread: give each video
    its own; they may share the detector. What is no picture changes nothing. A copy by pickle
    goes on from where the tracker was.

    Args:
        detector: finds the faces, and follows them by its `localize`, with its `passes` if the
            model is calibrated, else with 1.
        make_filter: makes the filter of one face, a callable as `ScaleFilter()`; None for none.
        max_scale: largest mean scale of a face that is followed, pixels of the model's crop. The
            default is for 80-pixel crops. A coarse limit, for models whose calibration does not
            tell when they are lost: those that are shipped do.
        find_every: frames from one search for new faces to the next, or as many thirtieths of a
            second, where these are fewer; None to search only when a face is lost or none is
            followed.

    Attributes:
        left_out: a counter of the faces that were detected and are not followed, by reason.

    Raises:
        ValueError: an argument out of range, or a model whose crops are not cut by landmarks.

    Example:

    >>> tracker = LandmarkTracker(LandmarkDetector.from_pretrained())
    >>> for i, frame in enumerate(frames):          # (H, W, 3) uint8 RGB each
    ...     for face in tracker(frame, i / 30):
    ...         print(face.id, face.landmarks[30])
    """

    def __init__(
        self,
        detector: LandmarkDetector,
        make_filter: Callable[[], LandmarkFilter] | None = ScaleFilter,
        max_scale: float = 2.0,
        find_every: int | None = 30,
    ) -> None:
        if not max_scale > 0:
            raise ValueError(f"`max_scale` must be > 0. Received: {max_scale}")
        if find_every is not None and find_every < 1:
            raise ValueError(f"`find_every` must be at least 1, or None. Received: {find_every}")
        scheme: Any = detector.localizer.scheme  # a `LandmarkDetector` has one
        if scheme.crop_from != "points":
            raise ValueError(
                "Faces are followed by their landmarks: expected a model whose crops are cut by "
                f'them (`crop_from="points"`). Received: {scheme.crop_from!r}. Detect in each '
                "frame."
            )
        self.detector = detector
        self._scheme = scheme
        self.make_filter = make_filter
        self.max_scale = max_scale
        self.find_every = find_every
        self.left_out: collections.Counter[str] = collections.Counter()
        self._next_id = 0
        self._turn = Lock()
        self.reset()

    def reset(self) -> None:
        """Forgets all faces, as before a new video. Numbers are not given again."""
        with self._turn:
            self._tracks = []
            self._lost = []
            self._search_until = -math.inf
            self._since_search, self._searched, self._looked = 0, -math.inf, -math.inf
            self._shape: tuple[int, ...] = ()
            self._time = -math.inf

    def __call__(self, frame: ArrayLike, time: float) -> list[TrackedFace]:
        """The faces of the next frame.

        Args:
            frame: (H, W, 3) uint8 RGB. OpenCV's functions give BGR: `cv2.cvtColor(bgr,
                cv2.COLOR_BGR2RGB)`.
            time: seconds, from any start. Frames need not be evenly spaced.

        Returns:
            list of `TrackedFace` by rising `id`.

        Raises:
            ValueError: a time that is not finite, or as `LandmarkDetector`.
        """
        if not math.isfinite(time):
            raise ValueError(f"`time` must be finite, in seconds. Received: {time}")
        frame = as_photo(frame)
        with self._turn:
            return copy.deepcopy(self._next(frame, time))  # the next frame goes on from these

    def _next(self, frame, time):
        if frame.shape != self._shape or time < self._time:
            self.reset()
        self._shape, self._time = frame.shape, time

        gone = self._follow(frame, time)
        self._lost = [each for each in self._lost + gone if time - each.time <= _REMEMBERED]
        last = max((each.time for each in gone), default=-math.inf)
        self._search_until = max(self._search_until, last + _REMEMBERED)
        self._since_search += 1
        due = self.find_every is not None and (
            self._since_search >= self.find_every
            or time - self._searched >= self.find_every / _RATE
        )
        called = time <= self._search_until or any(track.lost for track in self._tracks)
        if called or due or not self._tracks:
            # In each frame an empty scene is not worth the fourfold time of turned copies, and what
            # is no face, or hardly one, not that of sixty looks.
            waited = time - self._looked >= _PAUSE
            look_around = waited and (called or due or self.find_every is None)
            left, in_doubt = self._search(frame, time, look_around, called)
            if in_doubt and time - self._looked >= _DOUBT:
                look_around = True
                left, _ = self._search(frame, time, look_around, called)
            if left:
                self.left_out["too unsure or too small to follow"] += left
            if look_around:
                self._looked = time
            if look_around or due:
                self._since_search, self._searched = 0, time
        return [track.face for track in self._tracks]

    def _follow(self, frame, time):
        """Moves the tracks to a frame; returns those that are lost."""
        if not self._tracks:
            return []
        squares = np.stack([track.expected(time) for track in self._tracks])
        # Only a calibrated model's passes are averaged. Else one is enough, for the crop is good.
        passes = 1 if self.detector.localizer.calibration is None else self.detector.passes
        faces = self.detector.localize(frame, squares, passes, recut=True)
        found, lost = [], []
        for track, face, expected in zip(self._tracks, faces, squares, strict=True):
            square = self._checked(face)
            gone = face.lost and time - track.sure > _LOST
            if gone or square is None or distance(expected, square) > _JUMP:
                lost.append(track)
            else:
                found.append((track, face, square, distance(expected, square)))
        # Of two that have become one, that which is and was seen goes on, and was expected nearest.
        found.sort(key=lambda each: (bool(each[1].lost), bool(each[0].lost), each[3]))
        kept = []
        for track, face, square, _ in found:
            if any(are_same(square, other.square) for other in kept):
                if time - track.begun > _LOST:  # else it was no other face, but found twice
                    lost.append(track)
            else:
                self._update(track, face, time)
                kept.append(track)
        self._tracks = sorted(kept, key=lambda track: track.number)
        return lost

    def _search(self, frame, time, look_around, at_any_angle):
        """Begins tracks of the faces that the detector finds where there is none.

        Returns how many it leaves out, and whether to look around for want of a face to be sure of.
        """
        # A face that is lost beside others may lie on its side.
        any_angle = True if at_any_angle and self.detector.any_angle is None else None
        faces = self.detector(frame, look_around=look_around, any_angle=any_angle)
        left, in_doubt, new = 0, False, []
        for face, unsure in zip(faces, self.detector.unsure(faces), strict=True):
            square = self._checked(face)
            track = None if square is None else self._track_of(face, square)
            # Before it is looked around for, it may be another one, seen in a face upside down.
            settled = look_around or not unsure
            in_doubt |= not settled and (track is None or track.lost)
            if square is None or face.lost or not settled:
                left += track is None
            elif track is not None:
                if track.lost or self._is_corrected(track, face, square):
                    self._update(track, face, time)
            elif not any(are_same(square, other) for _, other in new):
                new.append((face, square))
        formers = self._formers([square for _, square in new], time)
        for (face, _), former in zip(new, formers, strict=True):
            smooth = self.make_filter() if self.make_filter else None
            track = _Track(self._next_id, smooth, begun=time)
            if former is None:
                self._next_id += 1
            else:
                track.number = former.number
                track.square, track.time = former.seen, former.sure
            self._update(track, face, time)
            self._tracks.append(track)
        self._tracks.sort(key=lambda track: track.number)
        return left, in_doubt

    def _track_of(self, face, square):
        """The track of a face that was detected, of this square; None if it is not followed."""
        near = [each for each in self._tracks if are_same(square, each.square)]
        if not near:  # a face that is upside down may be followed as another one in it
            near = [
                each
                for each in self._tracks
                if math.cos(face.angle - each.face.angle) < 0
                and not each.lost
                and self._is_unsure(each)
                and are_same(square, np.asarray(each.square), reach=1.0)
            ]
        return min(near, key=lambda each: distance(np.asarray(each.square), square), default=None)

    def _is_corrected(self, track, face, square):
        """Whether the model is surer of a face that was detected than of what it follows there."""
        turned = math.cos(face.angle - track.face.angle) < math.cos(_TURNED)
        is_another = turned or distance(track.square, square) > _APART
        alike = 1 / _RESIZED <= square[2] / track.square[2] <= _RESIZED
        if not (is_another and alike and self._is_unsure(track)):
            return False
        found, before = relative_errors([face, track.face])
        return bool(found < before)

    def _is_unsure(self, track):
        return bool(self.detector.unsure([track.face])[0])

    def _formers(self, squares, time):
        """For each square of a new face the lost track that ends where it begins, or None.

        The nearest pairs first. These tracks are followed no longer.
        """
        lost = [track for track in self._tracks if track.lost] + self._lost
        pairs = []
        for i, square in enumerate(squares):
            for k, track in enumerate(lost):
                moved = np.abs(square[:2] - track.seen[:2]).max() / max(square[2], track.seen[2])
                reach = min(_NEAR + _FASTEST * (time - track.sure), _FARTHEST)
                alike = 1 / _RESIZED <= square[2] / track.seen[2] <= _RESIZED
                if moved <= _NEAR or (alike and moved <= reach):
                    pairs.append((moved, i, k))
        found = {}
        for moved, i, k in sorted(pairs):
            if i not in found and lost[k] not in found.values():
                found[i] = lost[k]
                if moved > _NEAR:  # it may be another one, and the lost one be seen again
                    self._search_until = time + _REMEMBERED
        for tracks in (self._tracks, self._lost):
            tracks[:] = [track for track in tracks if track not in found.values()]
        return [found.get(i) for i in range(len(squares))]

    def _update(self, track, face, time):
        values = {field.name: getattr(face, field.name) for field in dataclasses.fields(Face)}
        if track.smooth is not None:
            values["landmarks"] = track.smooth(face.landmarks, face.scale, time)
        track.face = TrackedFace(**values, id=track.number, raw=face.landmarks.copy())
        square = face_square(track.face.landmarks, self._scheme)
        track.move(square, time)
        if not face.lost:
            track.seen, track.sure = square, time

    def _checked(self, face):
        """The five points' square of a face; None if it is not a face that can be followed."""
        localizer = self.detector.localizer
        scale = face.scale.mean() * localizer.image_size / face.square[2]
        if not (np.isfinite(face.landmarks).all() and scale <= self.max_scale):
            return None
        try:
            square = face_square(face.landmarks, self._scheme)
        except ValueError:  # all landmarks in one point
            return None
        height, width = self._shape[:2]
        inside = -0.5 <= square[0] <= width - 0.5 and -0.5 <= square[1] <= height - 0.5
        return square if inside and square[2] >= _SMALLEST else None


@dataclasses.dataclass(eq=False)
class _Track:
    """One face that is followed.

    Attributes:
        number: its id.
        smooth: its filter, or None.
        begun: when it was found, seconds.
        face: `TrackedFace` of the last frame.
        square: (4,) the five points' square by its landmarks, with its angle.
        speed: (2,) of the square's center, pixels a second.
        time: of the last frame, seconds.
        seen: (4,) the square of the last frame in which the model was not lost on it.
        sure: of that frame, seconds.
    """

    number: int
    smooth: Callable | None
    begun: float = 0.0
    face: TrackedFace | None = None
    square: np.ndarray | None = None
    speed: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(2))
    time: float = 0.0
    seen: np.ndarray | None = None
    sure: float = 0.0

    @property
    def lost(self):
        """Whether its landmarks are a guess."""
        return self.face is not None and self.face.lost

    def move(self, square, time):
        # Without a filter a speed would be mostly flicker. A guess that the detector corrects in
        # the same frame has not moved.
        if self.square is not None and self.smooth is not None:
            passed = time - self.time
            moved = square[:2] - self.square[:2]
            self.speed = moved / max(passed, SHORTEST) if passed > 0 else np.zeros(2)
        self.square, self.time = square, time

    def expected(self, time):
        """Where the square is if the face keeps its speed."""
        reach = _AHEAD * self.square[2]  # pyright: ignore[reportOptionalSubscript]
        shift = np.clip(self.speed * (time - self.time), -reach, reach)
        return self.square + np.append(shift, (0, 0))
