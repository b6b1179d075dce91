"""Finds the landmarks of files of photos and videos."""

import collections
import contextlib
import copy
import functools
import glob
import itertools
import os
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from absl import logging
from numpy.typing import NDArray

from keras_lapkl._support import cluster, console, extras
from keras_lapkl._support.csv_names import read_name
from keras_lapkl._support.files import check_outputs, write_json
from keras_lapkl._support.folders import announce, announced, owned
from keras_lapkl._support.names import names_below, output_stems
from keras_lapkl._support.types import PathLike
from keras_lapkl.data import tables
from keras_lapkl.data.images import IMAGE_SUFFIXES, OTHER_PICTURES, ImageError, find_files
from keras_lapkl.detection.detections import as_boxes, beside
from keras_lapkl.detection.landmark_detector import LandmarkDetector
from keras_lapkl.detection.tracking import LandmarkTracker
from keras_lapkl.detection.unfinished import Record, listing
from keras_lapkl.detection.video import VIDEO_SUFFIXES, Account, is_video, read_pictures
from keras_lapkl.detection.writers import (
    FORMATS,
    OVERLAYS,
    SKIPPED,
    face_writer,
    overlay_writer,
    planned_outputs,
    remove_former,
    write_skipped,
)

_COUNTS = ("used", "skipped", "pictures", "faces", "without_face", "lost")
_FRAMES = ("read", "used", "passed_over", "skipped", "broken")
_ERRORS = (ValueError, OSError, MemoryError, cv2.error)


def find_inputs(
    patterns: Iterable[PathLike], passed_by: collections.Counter[str] | None = None
) -> list[Path]:
    """Photo and video files, sorted, each once.

    Pictures of kinds that are not read, such as TIFF, are among them: what reads them says why not.

    Args:
        patterns: files, folders (their photos and videos, at any depth) and globs.
        passed_by: where to count by suffix the files of folders that are neither, as `find_files`
            does, the overlays that `predict_files` has written into them, and the folders that a
            glob matches.

    Raises:
        FileNotFoundError: a pattern without a match.
        ImageError: a folder without a photo or a video.

    Example:

    >>> find_inputs(["photos", "clips/*.mp4"])
    [PosixPath('clips/1.mp4'), PosixPath('photos/1.jpg')]
    """
    found = set()
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files, others = find_files(path, IMAGE_SUFFIXES + OTHER_PICTURES + VIDEO_SUFFIXES)
            overlays_in = functools.cache(_overlays_in)
            kept = [file for file in files if not _is_overlay(file, path, overlays_in)]
            if len(kept) < len(files):
                others["overlays of before"] += len(files) - len(kept)
            found.update(kept)
            if passed_by is not None:
                passed_by.update(others)
        elif path.exists() or path.is_symlink():
            found.add(path)
        else:
            matches = map(Path, glob.glob(str(pattern), recursive=True))
            folders, files = [], []
            for match in matches:
                (folders if match.is_dir() else files).append(match)
            if folders and not files:
                raise FileNotFoundError(
                    f"{pattern} matches folders alone, such as {folders[0]}. Name these, or give "
                    f"{pattern}/*."
                )
            if not files:
                raise FileNotFoundError(f"There is no file or folder {pattern}, nor a match of it.")
            found.update(files)
            if passed_by is not None and folders and "**" not in str(pattern):
                passed_by["folders"] += len(folders)
    # One file may be named in several ways, `a/../b.jpg` and `b.jpg`.
    real = functools.cache(Path.resolve)
    once = {real(path.parent) / path.name: path for path in sorted(found, reverse=True)}
    return sorted(once.values())


def _is_overlay(file, folder, overlays_in):
    """Whether a run before has written it below a folder, which is not one of overlays itself."""
    homes = [each.parent for each in file.parents if each.name == OVERLAYS]
    return any(
        home.is_relative_to(folder) and file.relative_to(home).as_posix() in overlays_in(home)
        for home in homes
    )


def _overlays_in(home):
    try:
        return announced(home, "predict")
    except ValueError:  # a file of that name, but none of ours
        return set()


def read_boxes(path: PathLike) -> dict[str, NDArray[np.float64]]:
    """Boxes by file name from a CSV of lines `file,x0,y0,x1,y1`, one line a face.

    Args:
        path: the file, as `data.tables` reads it; its first line may be a header, with the columns
            `file,x0,y0,x1,y1` or the like in any order. Names are those of photos, with folders
            or without; an apostrophe before `=`, `+`, `-` or `@` is for spreadsheets and not read.

    Returns:
        dict from name to (n, 4) float64.

    Raises:
        ValueError: with file and line, what was expected and what is there: boxes that are empty,
            not finite or further than 1e6 pixels away.
        OSError: the file can't be opened.

    Example:

    >>> read_boxes("boxes.csv")["1.jpg"]
    array([[10., 20., 50., 60.]])
    """
    boxes = {}
    table = tables.read_table(path)
    columns = range(1, 5) if table.header is None else tables.box_columns(table)
    picture = tables.picture_column(table)
    frames = [i for i, name in enumerate(table.header or ()) if tables.fold(name) == "frame"]
    for line, row in table.rows:
        if any(row[i] for i in frames):
            raise ValueError(
                f"{path}, line {line}: expected boxes of photos, or one for all frames of a video. "
                f"Received: frame {row[frames[0]]!r}"
            )
        try:
            if table.header is None and len(row) != 5:
                raise ValueError("Expected five cells.")
            name = row[picture]
            (box,) = as_boxes([float(row[i]) for i in columns])
        except ValueError as error:
            raise ValueError(
                f"{path}, line {line}: expected file,x0,y0,x1,y1 in pixels, with x0 < x1 and "
                f"y0 < y1. Received: {','.join(row)[:80]!r}"
            ) from error
        boxes.setdefault(read_name(name), []).append(box)
    corners = np.array([box for each in boxes.values() for box in each]).reshape(-1, 2)
    if tables.are_fractions(corners):
        raise ValueError(
            f"{path}: expected boxes in pixels. Received: all in -2..2, like fractions of the "
            "picture. Multiply them by its width and height"
        )
    return {name: np.array(each) for name, each in boxes.items()}


def predict_files(
    detector: LandmarkDetector,
    files: Sequence[Path],
    output_dir: PathLike,
    form: Literal["json", "csv", "pts"] = "json",
    *,
    overlays: bool = False,
    radii: bool = False,
    boxes: Mapping[str, NDArray[Any]] | None = None,
    every: int = 1,
    tracker: Callable[[], LandmarkTracker] | None = None,
    passed_by: Mapping[str, int] | None = None,
    provenance: dict[str, Any] | None = None,
    scheduler: PathLike | None = None,
    settings: Mapping[str, Any] | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Finds the landmarks of photos and videos, and writes them.

    Files that can't be used are left out, and listed with the reason in `skipped.csv`; so are the
    frames of a video and the boxes of a picture that can't, while the others are used. Equal input
    gives equal predictions, byte by byte. Only one photo is in memory at a time. All that is
    written is announced in `written.json`; what is there already is replaced only if an earlier
    run has announced it.

    Args:
        detector: a `LandmarkDetector`.
        files: photos, and videos (by `VIDEO_SUFFIXES`).
        output_dir: folder to write into: `predictions.json` or `predictions.csv`, or a `.pts` file
            a face; `overlays/`; `skipped.csv`; `results.json` with counts and times.
        form: one of `FORMATS`.
        overlays: whether to draw the landmarks into copies of photos and videos, `x.overlay.jpg`
            and `x.overlay.avi`.
        radii: whether to draw the radius of each landmark, too.
        boxes: dict from file name to (n, 4) face boxes, which are taken instead of the detector's;
            photos without are left out. A name is a photo's if it is its path, or the end of that,
            in whole names of folders; the longest, where several are.
        every: frames of a video from one that is looked at to the next.
        tracker: function that makes a fresh `tracking.LandmarkTracker` for each video; None to look
            at each frame alone.
        passed_by: what `find_inputs` has passed by, kept in `results.json`.
        provenance: dict from `provenance.run_provenance`, kept in `results.json`.
        scheduler: address of a Dask scheduler, `tcp://host:8786`, or the .json file that it has
            written: its workers do the work, each file by one of them. They must see files and
            model at the same paths. Not with `overlays`.
        settings: plain data, all that decides what the detector finds, such as the digests of its
            files. If the run before was killed and had the same settings, files and arguments, this
            one goes on where it was; None to begin anew.
        resume: whether to take over a folder that a process of another machine held, which is known
            to have ended.

    Returns:
        The content of `results.json`.

    Raises:
        ValueError: no file could be used; or a file would be replaced that is an input, or that
            no earlier run has written; or two files would be written to one; or a name in `boxes`
            is the end of several files' paths.
        OSError: another process writes into the folder, the disk is full, or the cluster fails.
        ModuleNotFoundError: `scheduler` without the extra `cluster`.

    Example:

    >>> detector = LandmarkDetector.from_pretrained()
    >>> print(summary(predict_files(detector, find_inputs(["photos"]), "found")))
    """
    if form not in FORMATS:
        raise ValueError(f"`form` must be one of {FORMATS}. Received: {form!r}")
    if not files:
        raise ValueError("Expected one file or more. Received: none")
    scheme = detector.localizer.scheme
    if boxes is not None and scheme is not None and scheme.crop_from == "image":
        raise ValueError("The model takes whole pictures: drop --boxes (`boxes`).")
    if scheduler is not None and overlays:
        raise ValueError("Workers send no pictures: drop --overlays (`overlays`) or --scheduler.")
    if scheduler is not None:
        extras.require("`scheduler`", "distributed")
    output_dir = Path(output_dir)
    names = dict(zip(files, names_below(files), strict=True))
    keys = _keys_of(boxes, names) if boxes else {}
    boxes_of = None if boxes is None else {name: boxes[key] for name, key in keys.items()}
    videos = [name for file, name in names.items() if is_video(file)]
    stems = output_stems(names.values(), videos)
    outputs = list(planned_outputs(form, stems, overlays))
    written = (output_dir / name for name, _ in outputs if not name.endswith("/"))
    check_outputs(written, files, links=False)
    start = time.perf_counter()
    before = dict(detector.seconds)
    # Of a cluster only what is done here.
    seconds = {"read": 0.0, "write": 0.0} if scheduler is None else {"write": 0.0}
    if settings is not None:
        of_call = {"form": form, "overlays": overlays, "radii": radii, "every": every}
        given = {name: box.tolist() for name, box in (boxes or {}).items()}
        settings = {**of_call, "boxes": given, "tracked": tracker is not None, "given": settings}
        settings |= {"files": listing(files), "versions": cluster.versions()}

    def progress(done):
        return f"{done:,} of {len(files):,} files, {counts['pictures']:,} pictures, {output_dir}"

    with owned(output_dir, resume=resume):
        announce(output_dir, "predict", outputs)
        record = Record(output_dir, settings)
        tally, counts = record.tally, record.tally.counts
        if tally.done:
            logging.info("Going on after %s of %s files.", f"{tally.done:,}", f"{len(files):,}")
        pictures_before = counts["pictures"]
        meter = console.Meter()
        with (
            face_writer(form, output_dir, detector.localizer.scheme, stems, record.text) as write,
            contextlib.closing(
                _looked_at(
                    *(detector, tracker, dict(itertools.islice(names.items(), tally.done, None))),
                    *(boxes_of, every, seconds, scheduler),
                )
            ) as looked_at,
        ):
            # Files whose results of a run before are still there: all, if none is used.
            done = itertools.islice(names.items(), 0 if counts["pictures"] else tally.done)
            former = [(stems[name], is_video(file)) for file, name in done]
            remove = functools.partial(remove_former, form, output_dir, former, overlays)
            told = output_dir / "results.json"  # what it tells of is whole as long as it is there
            in_place = form == "pts" or overlays  # other files are replaced at the end
            folder = output_dir / OVERLAYS if overlays else None
            left_out_before = detector.left_out.copy()
            for file, name, found, account, left_out in looked_at:
                former.append((stems[name], is_video(file)))
                with overlay_writer(folder, stems[name], file, every, radii) as draw:
                    for frame, at, photo, faces in found:
                        if in_place:
                            told.unlink(missing_ok=True)
                        remove()
                        _add_picture(counts, faces)
                        with _timed(seconds, "write"):
                            write(name, frame, at, faces)
                            draw(photo, at, faces, detector.localizer.scheme)
                        meter.tell(lambda _: progress(tally.done))
                if counts["pictures"]:
                    remove()
                tally.faces_left_out += account.faces + detector.left_out - left_out_before
                left_out_before = detector.left_out.copy()
                _add_file(tally, name, account, left_out, is_video(file))
                record.keep()
            if not counts["pictures"]:  # raised here, so that the faces of a run before stay
                write_skipped(output_dir / SKIPPED, tally.skipped)
                record.remove()
                raise ValueError(
                    f"None of {len(files)} files could be used; {output_dir / SKIPPED} says why. "
                    f"The first: {tally.skipped[0][-1]}"
                )
            told.unlink(missing_ok=True)
        meter.end(lambda _: progress(len(files)))
        write_skipped(output_dir / SKIPPED, tally.skipped)
        spent = time.perf_counter() - start
        if scheduler is None:
            seconds |= {part: s - before.get(part, 0) for part, s in detector.seconds.items()}
        results = {
            "files": len(files),
            **_counted(tally),
            "passed_by": dict(sorted((passed_by or {}).items())),
            "boxes_without_file": _without_file(boxes or {}, set(keys.values())),
            **_times(spent, counts["pictures"] - pictures_before, seconds),
            "provenance": provenance,
        }
        write_json(told, results)
        record.remove()
    return results


def _counted(tally):
    """The counts of `results.json`."""
    return {
        **{name: tally.counts[name] for name in _COUNTS},
        "faces_left_out": dict(tally.faces_left_out),
        "frames": {name: tally.frames[name] for name in _FRAMES},
    }


def _times(spent, pictures, seconds):
    """The times of `results.json`, of which this process has `spent` so many on its pictures."""
    return {
        "seconds": round(spent, 3),
        "pictures_per_second": round(pictures / spent, 2),
        "seconds_by_part": {part: round(each, 3) for part, each in seconds.items()},
    }


def _add_picture(counts, faces):
    counts["pictures"] += 1
    counts["faces"] += len(faces)
    counts["without_face"] += not faces
    counts["lost"] += sum(bool(face.lost) for face in faces)


def _add_file(tally, name, account, boxes_left_out, video):
    """Adds a file of which all pictures are written."""
    tally.counts["used" if account.used else "skipped"] += 1
    tally.skipped += [(name, *each) for each in _left_out(account, boxes_left_out, video)]
    if video:
        _add_frames(tally.frames, account)
    tally.done += 1


def summary(results: dict[str, Any]) -> str:
    """Lines of text that say what `predict_files` found and where its time went."""
    parts = results["seconds_by_part"]
    shares = ", ".join(f"{name} {100 * s / results['seconds']:.0f} %" for name, s in parts.items())
    lines = [
        f"{results['faces']:,} faces in {results['pictures']:,} pictures, "
        f"{results['without_face']:,} of them without a face; {results['skipped']:,} of "
        f"{results['files']:,} files left out."
    ]
    if results["lost"]:
        lines.append(
            f"Lost faces: {results['lost']:,}. The model is on what is no face, or not where the "
            "face is: use these landmarks as none."
        )
    frames = results["frames"]
    if frames["read"]:
        lines.append(
            f"Frames of videos: {frames['read']:,}; {frames['used']:,} used, "
            f"{frames['passed_over']:,} passed over by --every, {frames['skipped']:,} skipped, "
            f"{frames['broken']:,} broken."
        )
    for reason, count in results["faces_left_out"].items():
        lines.append(f"{count:,} more faces were detected and left out: {reason}.")
    if results["passed_by"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in results["passed_by"].items())
        lines.append(f"Passed by, neither photos nor videos: {kinds}.")
    if results["boxes_without_file"]:
        lines.append(f"{results['boxes_without_file']:,} boxes are of none of the files.")
    return "\n".join([*lines, f"{results['pictures_per_second']:g} pictures a second: {shares}."])


def _keys_of(boxes, names):
    """The key in `boxes` of each file's name that has one: the longest end of its path that is one.

    Raises:
        ValueError: a key may be of several files.
    """
    forms = {_one_form(key): key for key in boxes}
    fitting = collections.defaultdict(list)
    for file, name in names.items():
        whole = Path(os.path.abspath(file))
        ends = [file, *(Path(*whole.parts[start:]) for start in range(len(whole.parts)))]
        found = (end.as_posix() for end in ends)
        found = (end if end in boxes else forms.get(_one_form(end)) for end in found)
        if (key := next(filter(None, found), None)) is not None:
            fitting[key].append(name)
    keys = {}
    for key, several in fitting.items():
        # `1.jpg` is that of the folder itself, though there is `below/1.jpg`, too.
        own = [name for name in several if _one_form(name) == _one_form(key)]
        if len(several) > 1 and len(own) != 1:
            raise ValueError(
                f"The boxes of {str(key)!r} (`boxes`, --boxes) may be of any of {len(several)} "
                f"files: {', '.join(several[:3])}. Name them with their folders."
            )
        keys[(own or several)[0]] = key
    return keys


def _one_form(path):
    """A path in one form; macOS decomposes accents in names, and what writes boxes may not."""
    return unicodedata.normalize("NFC", Path(path).as_posix())


def _looked_at(detector, tracker, names, boxes, every, seconds, scheduler):
    """Each file, its name, what is found in it as by `_found`, its account, and boxes left out."""
    if scheduler is None:
        for file, name in names.items():
            account, left_out = Account(), collections.Counter()
            make_finder = functools.partial(_finder, detector, tracker, file, name, boxes, left_out)
            found = _found(file, every, make_finder, seconds, account)
            yield file, name, found, account, left_out
        return
    # A worker is sent the boxes of its files only.
    items = (
        [(file.absolute(), name, None if boxes is None else _of_file(boxes, name))]
        for file, name in names.items()
    )
    look = functools.partial(_look, detector, tracker, every)
    piece = 1 if any(map(is_video, names)) else cluster.PIECE  # a video is much work
    looks = cluster.map_in_order(
        look, items, scheduler, _died, lambda look: look.account.doubt, piece
    )
    with contextlib.closing(looks):
        for (file, name), look in zip(names.items(), looks, strict=True):
            detector.left_out.update(look.faces_left_out)
            yield file, name, look.found, look.account, look.boxes_left_out


class _Look(NamedTuple):
    """What a worker found in a file."""

    found: list[Any]
    account: Account
    boxes_left_out: collections.Counter[Any]
    faces_left_out: collections.Counter[str]


def _look(detector, tracker, every, item):
    file, name, boxes = item
    account, left_out = Account(), collections.Counter()
    detector = copy.copy(detector)  # other threads of this process count as well
    detector.left_out = collections.Counter()
    make_finder = functools.partial(_finder, detector, tracker, file, name, boxes, left_out)
    pictures = _found(file, every, make_finder, {"read": 0.0}, account)
    found = [(frame, at, None, faces) for frame, at, _, faces in pictures]
    return _Look(found, account, left_out, detector.left_out)


def _died(item):
    account = Account(absent=[("", "the process that read it died")])
    return _Look([], account, collections.Counter(), collections.Counter())


def _of_file(boxes, name):
    """The part of `boxes` that is of a file."""
    return {name: boxes[name]} if name in boxes else {}


def _found(file, every, make_finder, seconds, account):
    """Frame, time, photo and faces of each picture of a file that can be used.

    What is raised between two of them, such as by a full disk, is none of the file's.
    """
    try:
        find = make_finder()
        pictures = read_pictures(file, every, account)
        while True:
            with _timed(seconds, "read"):
                picture = next(pictures, None)
            if picture is None:
                account.faces.update(getattr(find, "left_out", {}))  # a tracker's
                return
            frame, at, photo = picture
            try:
                faces = find(photo, at)
            # Whatever a picture does to a network or a decoder, the others are read.
            except _ERRORS as error:
                account.lost[_reason(error)] += 1
                _doubt(account, file, error)
                continue
            account.used += 1
            yield frame, at, photo, faces
    except _ERRORS as error:
        account.absent.append(("", _reason(error)))
        _doubt(account, file, error)


def _doubt(account, file, error):
    if cluster.is_of_machine(error):
        account.doubt = f"{file}: {_reason(error)}"


def _finder(detector, tracker, file, name, boxes, left_out) -> Callable[..., Any]:
    """Function from a photo and its time to faces; boxes that it leaves out go to `left_out`."""
    if boxes is not None:
        if name not in boxes:
            raise ImageError(f"{file}: no boxes are given for it")
        given = boxes[name]
        return lambda photo, at: detector(photo, _about(given, photo, left_out))
    if tracker is not None and is_video(file):
        return tracker()
    return lambda photo, at: detector(photo)


def _about(boxes, photo, left_out):
    """The boxes that have a part of a photo, or all, to be refused, if none has."""
    out = beside(boxes, photo)
    if out.all():
        return boxes
    for i in np.flatnonzero(out):
        reason = f"it is beside the picture, which has {photo.shape[1]}x{photo.shape[0]} pixels"
        left_out[f"box {i + 1} of {len(boxes)}", reason] += 1
    return boxes[~out]


def _left_out(account, boxes, video):
    """(part, reason) of what was not used of a file; no part is the whole file."""
    if not account.used:
        reasons = [reason for _, reason in account.absent] + list(account.lost)
        return [("", reasons[0] if reasons else "none of its frames can be decoded")]
    lost = [("can't be decoded", account.broken)] if account.broken else []
    lost += account.lost.items()
    rows = [(f"{count:,} of {account.frames:,} frames", reason) for reason, count in lost]
    rows += [(part or "the rest", reason) for part, reason in account.absent]
    for (box, reason), count in boxes.items():
        rows.append((f"{box} in {count:,} frames" if video else box, reason))
    return rows


def _reason(error):
    return " ".join(str(error).split()) or "not enough memory for it"


def _add_frames(frames, account):
    frames["read"] += account.frames
    frames["used"] += account.used
    frames["passed_over"] += account.passed_over
    frames["skipped"] += account.lost.total()
    frames["broken"] += account.broken


def _without_file(boxes, used):
    """How many boxes are given of files that are not there."""
    return sum(len(each) for key, each in boxes.items() if key not in used)


@contextlib.contextmanager
def _timed(seconds, part):
    start = time.perf_counter()
    yield
    seconds[part] += time.perf_counter() - start
