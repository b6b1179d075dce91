"""How much flicker of landmarks in video each filter removes, its lag, and what tracking saves.

    python benchmarks/tracking.py --model=model.tflite --photos_dir=300w \\
        --stems=300w/splits/validation.txt --plot=video.png

Clips with known truth (`keras_lapkl.data.synthetic.clips`), half of them synthetic heads, half
photos that are moved as planes. Each filter gets the settings with the least flicker among
those that add no more than --max_lag to no filter's and keep --min_talk of its response to
talking, on other clips than those that are measured; `ScaleFilter` has its defaults too. Then each
runs in `LandmarkTracker`.

Further tables: how often a limit of the scale, or the model's own word that it is lost, gives up a
face, or follows something else; and, with --detector, what a frame costs with tracking, by two
passes and by one, and with detecting in each.

--hard measures only faces that the model is unsure of, and others in the dark, in fog and out of
focus: what each way to look at them again costs and gives.
"""

import itertools
import pathlib
import sys
import time
import unittest.mock

import cv2
import numpy as np
from absl import flags, logging

from keras_lapkl import confidence, schemes
from keras_lapkl._support import app, console
from keras_lapkl._support.files import replacing, write_json
from keras_lapkl._support.provenance import run_provenance
from keras_lapkl.data.cropping import crop_squares
from keras_lapkl.data.images import read_image
from keras_lapkl.data.pts import read_pts
from keras_lapkl.data.synthetic import clips
from keras_lapkl.data.synthetic.faces import paint_background
from keras_lapkl.detection import filters, tracking
from keras_lapkl.detection.first_pass import distance
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.evaluation import tracking_scores
from keras_lapkl.tflite import TFLiteLocalizer

_MODEL = flags.DEFINE_string("model", None, "A .tflite file by tools/convert.py.", required=True)
_PHOTOS_DIR = flags.DEFINE_string("photos_dir", None, "Photos and .pts files.", required=True)
_STEMS = flags.DEFINE_string(
    "stems", None, "File with one photo a line, without suffix: validation faces.", required=True
)
_CLIPS = flags.DEFINE_integer("clips", 6, "Clips of each kind, to tune and to measure.", 1)
_PASSES = flags.DEFINE_integer("passes", 2, "Runs of the network on a face of a frame.", 1)
_RATE = flags.DEFINE_float("rate", 30, "Frames a second.", 1)
_MAX_LAG = flags.DEFINE_float("max_lag", 10, "Largest lag that a filter may add, ms.", 0)
_MIN_TALK = flags.DEFINE_float("min_talk", 0.85, "Least part of talking that it keeps.", 0, 1)
_MAX_SCALES = flags.DEFINE_list("max_scales", [1.6, 1.8, 2.0, 2.2, 2.4], "To compare, pixels.")
_DETECTOR = flags.DEFINE_string(
    "detector", None, "Of faces, to compare costs with; see `keras_lapkl.detectors`."
)
_HARD = flags.DEFINE_bool("hard", False, "Measure only faces that are hard to follow.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file to write.")
_PLOT = flags.DEFINE_string("plot", None, "PNG file to write: one coordinate over time.")

_FIRST_MEASURED = 100  # seeds and photos below are tuned on
_PLOTTED_CLIP, _PLOTTED = 1, 33  # the base of the nose
_LOOKS = 6
_COLUMNS = ("flicker", "jitter", "lag", "nme", "moving_nme", "talk", "blink", "missed")


class MovingAverage:
    """The mean of the last n landmarks."""

    def __init__(self, n):
        self.n = n
        self.last = []

    def __call__(self, landmarks, scale, time):
        self.last = [*self.last, landmarks][-self.n :]
        return np.mean(self.last, axis=0)


class OneScaleFilter(filters.ScaleFilter):
    """A `ScaleFilter` that takes all landmarks' scales for their mean."""

    def __call__(self, landmarks, scale, time):
        return super().__call__(landmarks, np.full_like(scale, scale.mean()), time)


class AloneFilter(filters.ScaleFilter):
    """A `ScaleFilter` that leaves the shared motion to each landmark on its own."""

    def __call__(self, landmarks, scale, time):
        modes = np.zeros((4, *landmarks.shape))
        with unittest.mock.patch.object(filters, "similarity_modes", lambda *_: modes):
            return super().__call__(landmarks, scale, time)


_SCALE_GRID = {
    "gate": (1.5, 2.0, 2.5, 3.0, 4.0),
    "shared": (2.0, 3.0, 4.0),
}
_FILTERS = {
    "moving average": (MovingAverage, {"n": (2, 3, 4)}),
    "one-euro": (
        filters.OneEuroFilter,
        {
            "min_cutoff": (0.03, 0.1, 0.3, 1.0, 2.0, 3.0),
            "beta": (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
            "derivative_cutoff": (1.0, 3.0, 10.0),
        },
    ),
    "scale": (filters.ScaleFilter, {}),  # as it is
    "scale, chosen": (filters.ScaleFilter, _SCALE_GRID),
    "scale, all alike": (OneScaleFilter, _SCALE_GRID),
    "scale, no shared motion": (AloneFilter, _SCALE_GRID),
}


_SPOILED = {
    "dark, 6 %": lambda frame, rng: 0.06 * frame + rng.normal(0, 1, frame.shape),
    "fog, 12 %": lambda frame, rng: 0.12 * frame + 150,
    "blur, σ 4 px": lambda frame, rng: cv2.GaussianBlur(frame, (0, 0), 4),
}
_AGAIN = {"not at all": {}, "cut in other ways": {"recut": True}, "around": {"look_around": True}}


class Stand:
    """A `LandmarkDetector` whose face detector knows where the face of a clip is, nearly.

    `again` is how a face that is followed is looked at again, in place of what the tracker asks.
    """

    def __init__(self, detector, clip, again=None):
        self.detector = detector
        self.again = again
        self.localizer = detector.localizer
        self.passes = detector.passes
        self.any_angle = detector.any_angle
        self.squares = crop_squares(clip.landmarks, clip.scheme, 1)
        self.frame = 0
        self.calls = 0

    def localize(self, frame, squares, passes, **again):
        again = again if self.again is None else self.again
        return self.detector.localize(frame, squares, passes, **again)

    def unsure(self, faces):
        return self.detector.unsure(faces)

    def __call__(self, frame, look_around=True, any_angle=None):
        self.calls += 1
        shift = np.random.default_rng([7, self.frame]).uniform(-0.1, 0.1, 3)
        x, y, side = self.squares[self.frame]
        square = x + shift[0] * side, y + shift[1] * side, side * np.exp(shift[2])
        return self.detector.localize(frame, [square], 2, look_around, not look_around)


def main(_):
    cv2.setNumThreads(1)
    detector = LandmarkDetector(TFLiteLocalizer(_MODEL.value), passes=_PASSES.value)
    photos = _photos()
    if _HARD.value:
        print(console.aligned(_hard(detector, photos)))
        return

    logging.info("Choose settings on %d clips.", 2 * _CLIPS.value)
    streams = [_stream(detector, clip) for clip in _clips(photos, 0)]
    settings = {name: _tuned(streams, *each) for name, each in _FILTERS.items()}
    for name, setting in settings.items():
        said = ", ".join(f"{key} {value:g}" for key, value in setting.items())
        print(f"{name}: {said or 'its defaults'}")

    logging.info("Measure.")
    filters = {"none": None}
    for name, setting in settings.items():
        filters[name] = _maker(_FILTERS[name][0], setting)
    measured = {name: [] for name in filters}
    clips = _clips(photos, _FIRST_MEASURED)
    for i, clip in enumerate(clips):
        found = _tracked(detector, clip, filters)
        for name, (landmarks, calls) in found.items():
            measured[name].append({**tracking_scores.evaluate(clip, landmarks), "calls": calls})
        if i == _PLOTTED_CLIP and _PLOT.value:
            _plot(clip, {name: found[name][0] for name in ("none", "one-euro", "scale")})
    kinds = {"synthetic": slice(_CLIPS.value), "photos": slice(_CLIPS.value, None)}
    for kind, part in kinds.items():
        rows = [_cells(name, each[part]) for name, each in measured.items()]
        print(f"\n{kind}, {_CLIPS.value} clips: mean ± deviation over clips")
        print(console.aligned([("filter", *_COLUMNS), *rows]))
    print()
    for name in measured:
        if name != "scale":
            print(_beside(measured["scale"], measured[name], name))
    calls, frames = sum(each["calls"] for each in measured["scale"]), sum(map(len, clips))
    print(f"The detector ran {calls} times in {frames:,} frames.")

    limits = _limits(detector, photos)
    print("\n" + console.aligned(limits))
    costs = None if _DETECTOR.value is None else _costs(clips[-1])
    if costs:
        print("\n" + console.aligned(costs))
    if _OUTPUT.value:
        content = {"settings": settings, "measured": measured, "limits": limits, "costs": costs}
        content["provenance"] = run_provenance()
        write_json(_OUTPUT.value, content)


def _photos():
    """(image, landmarks) of each photo, in a shuffled order."""
    stems = pathlib.Path(_STEMS.value).read_text().split()
    folder = pathlib.Path(_PHOTOS_DIR.value)
    found = []
    for i in np.random.default_rng(5).permutation(len(stems)):
        for suffix in (".jpg", ".png"):
            path = folder / f"{stems[i]}{suffix}"
            if path.is_file():
                found.append((read_image(path), read_pts(path.with_suffix(".pts"))))
    if len(found) < _FIRST_MEASURED + _CLIPS.value:
        raise ValueError(
            f"{_STEMS.value}: expected {_FIRST_MEASURED + _CLIPS.value} photos or more in "
            f"{folder}. Received: {len(found)}"
        )
    return found


def _clips(photos, first):
    seeds = range(first, first + _CLIPS.value)
    return [clips.synthetic_clip(seed, rate=_RATE.value) for seed in seeds] + [
        clips.photo_clip(*photos[seed], seed=seed, rate=_RATE.value) for seed in seeds
    ]


def _maker(kind, setting):
    return lambda: kind(**setting)


def _stream(detector, clip):
    """A clip with raw landmarks and scales of each frame, NaN without a face."""
    stand = Stand(detector, clip)
    tracker = tracking.LandmarkTracker(stand, None, find_every=None)
    found = np.full((2, *clip.landmarks.shape), np.nan)
    for i, (at, frame) in enumerate(clip.frames()):
        stand.frame = i
        for face in tracker(frame, at):
            found[:, i] = face.landmarks, face.scale
    return clip, *found


def _tuned(streams, kind, grid):
    """The values of a grid with the least flicker within the limits; else those that lag least."""

    def measure(make):
        rows = [
            tracking_scores.evaluate(clip, _filtered(make, clip.times, *raw))
            for clip, *raw in streams
        ]
        return {key: np.nanmean([row[key] for row in rows]) for key in ("flicker", "lag", "talk")}

    none = measure(None)
    found = []
    for values in itertools.product(*grid.values()):
        setting = dict(zip(grid, values, strict=True))
        got = measure(_maker(kind, setting))
        within = (
            got["lag"] - none["lag"] <= _MAX_LAG.value
            and got["talk"] >= _MIN_TALK.value * none["talk"]
        )
        found.append((not within, got["flicker"] if within else got["lag"], setting))
    return min(found, key=lambda each: each[:2])[2]


def _filtered(make, times, landmarks, scales):
    """Landmarks filtered as the tracker does it: a face that was lost begins with a new filter."""
    out, smooth = np.full_like(landmarks, np.nan), None
    for i, time_ in enumerate(times):
        if not np.isfinite(landmarks[i]).all():
            smooth = None
            continue
        smooth = smooth or (make() if make else lambda landmarks, *_: landmarks)
        out[i] = smooth(landmarks[i], scales[i], time_)
    return out


def _tracked(detector, clip, filters):
    """Landmarks of each frame, and the detector's calls, by filter; the frames are made once."""
    stands = {name: Stand(detector, clip) for name in filters}
    trackers = {
        name: tracking.LandmarkTracker(stands[name], make, find_every=None)
        for name, make in filters.items()
    }
    found = {name: np.full(clip.landmarks.shape, np.nan) for name in filters}
    for i, (at, frame) in enumerate(clip.frames()):
        for name, tracker in trackers.items():
            stands[name].frame = i
            for face in tracker(frame, at):
                found[name][i] = face.landmarks
    return {name: (found[name], stands[name].calls) for name in filters}


def _cells(name, rows):
    cells = []
    for column in _COLUMNS:
        values = [row[column] for row in rows if np.isfinite(row[column])]
        deviation = np.std(values, ddof=1) if len(values) > 1 else 0
        cells.append(f"{np.mean(values):.2f} ± {deviation:.2f}" if values else "")
    return name, *cells


def _beside(rows, others, name):
    """How two filters differ on the same clips."""
    flicker, other = (np.array([row["flicker"] for row in each]) for each in (rows, others))
    lag = np.array([row["lag"] - each["lag"] for row, each in zip(rows, others, strict=True)])
    return (
        f"scale beside {name}: {np.exp(np.log(flicker / other).mean()):.2f} × its flicker, less in "
        f"{(flicker < other).sum()} of {len(rows)} clips; lag {lag.mean():+.1f} ms, less in "
        f"{(lag < 0).sum()}"
    )


def _limits(detector, photos):
    """Shares of faces given up, and of squares without a face that are kept, by limit."""
    rng = np.random.default_rng(0)
    right, wrong = [], []  # (2, looks) each: mean scales, and whether the model is lost
    for photo, landmarks in photos:
        square = crop_squares(landmarks[None], schemes.IBUG68, 1)[0]
        right.append(_walk(detector, photo, square)[0][:, 0])
        for _ in range(5):
            place = rng.uniform(0, 1, 2) * photo.shape[1::-1]
            start = np.array([*place, square[2] * np.exp(rng.uniform(-1, 0.7))])
            looks, end = _walk(detector, photo, start)
            # A look from nearby finds the face, and rightly so.
            if min(distance(square, start), distance(square, end)) > 0.5:
                wrong.append(looks)
        background = paint_background(300, rng)
        start = np.array([150, 150, rng.uniform(30, 80)])
        wrong.append(_walk(detector, background, start)[0])
    right, wrong = np.array(right), np.array(wrong)
    rows = [("limit px", "faces given up %", "others kept 1 look %", f"{_LOOKS} looks %")]
    ways = [(f"{limit:g}", 0, limit) for limit in map(float, _MAX_SCALES.value)]
    for name, which, limit in [*ways, ("lost", 1, 0)]:
        kept = np.logical_and.accumulate(wrong[:, which] <= limit, axis=1).mean(0)
        shares = (right[:, which] > limit).mean(), kept[0], kept[-1]
        rows.append((name, *(f"{100 * share:.1f}" for share in shares)))
    rows.append(("of", f"{len(right):,}", f"{len(wrong):,}", ""))
    return rows


def _walk(detector, photo, square):
    """Mean scales of looks at a square and where they lead, and whether the model is lost; the end.

    Both are infinite once the square is gone.
    """
    localizer = detector.localizer
    looks = np.full((2, _LOOKS), np.inf)
    for i in range(_LOOKS):
        face = detector.localize(photo, [square], detector.passes)[0]
        try:
            square = crop_squares(face.landmarks[None], localizer.scheme, 1)[0]
        except ValueError:  # all landmarks in one point
            break
        if not (square[:2] >= 0).all() or not (square[:2] < photo.shape[1::-1]).all():
            break
        looks[:, i] = face.scale.mean() * localizer.image_size / face.square[2], bool(face.lost)
    return looks, square


def _hard(detector, photos):
    """What following costs and gives by kind of clip, and by how faces are looked at again."""
    runs, predict = [0], detector.localizer.predict

    def counted(images, **kwargs):
        runs[0] += len(images)
        return predict(images, **kwargs)

    detector.localizer.predict = counted
    unsure = sorted(range(len(photos)), key=lambda i: -_relative_error(detector, *photos[i]))
    kinds = {"that it is unsure of": (unsure[: _CLIPS.value], lambda frame, rng: frame)}
    others = range(_FIRST_MEASURED, _FIRST_MEASURED + _CLIPS.value)
    kinds |= {name: (others, spoil) for name, spoil in _SPOILED.items()}
    columns = ("flicker", "moving_nme", "nme")
    rows = [("faces", "looked at again", "network runs a frame", "most", *columns, "missed")]
    for kind, (chosen, spoil) in kinds.items():
        spent, scores = {name: [] for name in _AGAIN}, {name: [] for name in _AGAIN}
        for i in chosen:
            clip = clips.photo_clip(*photos[i], seed=i, rate=_RATE.value)
            stands = {name: Stand(detector, clip, again) for name, again in _AGAIN.items()}
            trackers = {name: tracking.LandmarkTracker(stand) for name, stand in stands.items()}
            found = {name: np.full(clip.landmarks.shape, np.nan) for name in _AGAIN}
            rng = np.random.default_rng(i)
            for k, (at, frame) in enumerate(clip.frames()):
                frame = np.clip(spoil(frame, rng), 0, 255).astype(np.uint8)
                for name, tracker in trackers.items():
                    stands[name].frame, runs[0] = k, 0
                    for face in tracker(frame, at):
                        found[name][k] = face.landmarks
                    spent[name].append(runs[0])
            there = np.all([np.isfinite(each).all((1, 2)) for each in found.values()], axis=0)
            for name, landmarks in found.items():
                missed = np.isnan(landmarks).any((1, 2)).mean()
                # On the frames of all ways, so that none gains by what it leaves out.
                landmarks[~there] = np.nan
                got = tracking_scores.evaluate(clip, landmarks)
                scores[name].append([*(got[column] for column in columns), missed])
        for name in _AGAIN:
            cells = f"{np.mean(spent[name]):.1f}", str(max(spent[name]))
            rows.append((kind, name, *cells, *(f"{x:.2f}" for x in np.nanmean(scores[name], 0))))
    return rows


def _relative_error(detector, photo, landmarks):
    """How unsure the model is of a face, by two passes from its labels."""
    square = crop_squares(landmarks[None], schemes.IBUG68, 1)
    (face,) = detector.localize(photo, square, 2)
    return confidence.relative_error(face.landmarks, face.error)


def _costs(clip):
    """Milliseconds of a frame by turns, and what is found, by tracking and by detecting in each."""

    def detector(passes):
        return LandmarkDetector(TFLiteLocalizer(_MODEL.value), _DETECTOR.value, passes)

    always, twice, once = detector(2), detector(2), detector(1)
    ways = {
        "detect in each frame": (always, lambda frame, at: always(frame)),
        "track": (twice, tracking.LandmarkTracker(twice)),
        "track, one pass": (once, tracking.LandmarkTracker(once)),
    }
    found = {name: np.full(clip.landmarks.shape, np.nan) for name in ways}
    spent = dict.fromkeys(ways, 0.0)
    frames = list(clip.frames())
    for each in (always, twice, once):
        each(frames[0][1])  # builds the face detector
        each.seconds.clear()
    for i, (at, frame) in enumerate(frames):
        for name, (_, find) in ways.items():
            start = time.perf_counter()
            faces = find(frame, at)
            spent[name] += time.perf_counter() - start
            if faces:
                middles = [np.linalg.norm(f.square[:2] - clip.landmarks[i].mean(0)) for f in faces]
                found[name][i] = faces[int(np.argmin(middles))].landmarks
    rows = [("way", "ms a frame", "of it detector", "flicker", "nme", "missed")]
    for name, (each, _) in ways.items():
        got = tracking_scores.evaluate(clip, found[name])
        seconds = spent[name], each.seconds["detect"]
        rows.append(
            (
                name,
                *(f"{1e3 * part / len(frames):.2f}" for part in seconds),
                *(f"{got[key]:.2f}" for key in ("flicker", "nme", "missed")),
            )
        )
    return rows


def _plot(clip, found):
    """One coordinate at rest, and how far off it is in quick motion: no filter and two filters."""
    from keras_lapkl.evaluation import plots

    start = int(np.flatnonzero(clip.motions == "jump")[0])
    second = round(_RATE.value)
    panels = (
        (slice(start - second, start), False, "x, px", "base of the nose at rest"),
        (slice(start, start + second), True, "x less the truth, px", "in quick motion"),
    )
    styles = {"none": ("#b0b0b0", 1.2), "one-euro": ("#d1495b", 1.5), "scale": ("#1f6f8b", 1.8)}
    figure = plots.figure(9, 3.6)
    for axes, (part, less, unit, title) in zip(figure.subplots(1, 2), panels, strict=True):
        truth = clip.landmarks[part, _PLOTTED, 0]
        axes.plot(clip.times[part], truth - less * truth, "k--", linewidth=1, label="truth")
        for name, landmarks in found.items():
            error = landmarks[part, _PLOTTED, 0] - truth
            # The model's own bias is left out: it is no matter of filters.
            values = error - np.nanmean(error) + (1 - less) * truth
            color, width = styles[name]
            label = "no filter" if name == "none" else f"{name} filter"
            axes.plot(clip.times[part], values, color=color, linewidth=width, label=label)
        axes.set(xlabel="time, s", ylabel=unit, title=title)
    figure.axes[0].legend()
    with replacing(_PLOT.value) as temporary:
        figure.savefig(temporary, dpi=110)


if __name__ == "__main__":
    sys.exit(app.run_main(main))
