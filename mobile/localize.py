"""Finds the landmarks of one face by a .tflite file, with NumPy and an interpreter alone.

Copy this one file beside the model, to a Raspberry Pi or into a Debian in Termux:

    pip install numpy ai-edge-litert
    python localize.py --model=int8.tflite --image=photo.ppm --box=210,95,420,330
    python localize.py --model=int8.tflite --image=crop.npy

A model of whole pictures takes a photo without --box. Takes .npy (H, W, 3) uint8 RGB and binary
.ppm, and JPEG, PNG, BMP and WebP where Pillow is installed. Prints JSON: landmarks and their scales
in pixels of that picture, x first, pixel centers at whole numbers from 0; and if the file is
calibrated, the error to expect of each landmark, the radius that holds the true point in 90 % of
all cases, and whether the landmarks are lost. A face in a photo that the model is unsure of is
looked at again with its gray levels stretched, without specks, sharpened, and at other rotations,
shifts and sizes, and the surest is given. Exits with 1 on what it cannot use, and says why.
"""

import argparse
import functools
import importlib
import io
import json
import math
import os
import re
import signal
import stat
import struct
import sys

import numpy as np

# The five points' box from a face box, as keras_lapkl/data/cropping.py has it: edge, offset in y.
_FIVE_BY_FACE_BOX, _FIVE_BELOW_FACE_BOX = 0.42, -0.01

# How a face is looked at again, as keras_lapkl/detection/looks.py has it. Around its square: right
# and down in its sides, ratio of its size, rotation in radians; from how many looks it goes on; and
# from which share of `lost`. Stretched: at which shares of the pixels, and the fewest gray levels.
# Sharpened: the deviation of the Gaussian in sides of the crop, and how often its loss is added.
_ANGLES = tuple(math.radians(degrees) for degrees in range(45, 360, 45))
_MOVES = ((0.5, 0.0, 1.0), (-0.5, 0.0, 1.0), (0.0, 0.5, 1.0), (0.0, -0.5, 1.0), (0.0, 0.0, 1.5))
_RINGS = (
    (*((0.0, 0.0, 1.0, angle) for angle in _ANGLES), *((*move, 0.0) for move in _MOVES)),
    tuple((*move, angle) for move in _MOVES for angle in _ANGLES),
)
_ENDS, _NARROWEST = (0.01, 0.99), 8
_BLUR, _SHARPNESS = 1 / 40, 3.0
_KEPT = 2
_UNSURE = 0.78
_AGREED, _MORE = 1.0, 2
_RESIZED = 3.0  # as in keras_lapkl/detection/looks.py
_UPRIGHT = math.radians(15)  # up to which a crop is not rotated, which takes longer

_SCHEMA = 1  # the newest of keras_lapkl/tflite/metadata.py whose keys this file knows
# How a crop is sampled, as keras_lapkl/data/cropping.py has it.
_MOST_SHRINK, _MOST_SAMPLES, _MAX_SAMPLED_SIDE = 6, 3, 4096
_LARGEST_FRACTION = 1.5  # of a box, as keras_lapkl/detection/detections.py has it
_MAX_BYTES = 2**28  # of a file; far above models and photos
_FARTHEST = 1e6  # pixels from a photo's corner that a box may lie, as in the package
_MIN_SIDE = 16  # of a photo, as the package has it
_MAX_PIXELS = 200_000_000  # of a photo, as the package has it
_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "WEBP")  # what the package reads; others may be of floats
_WITHOUT_WAITING = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
_ORIENTATION = 0x0112  # the tag of EXIF
_TURNS = {
    2: "FLIP_LEFT_RIGHT",
    3: "ROTATE_180",
    4: "FLIP_TOP_BOTTOM",
    5: "TRANSPOSE",
    6: "ROTATE_270",
    7: "TRANSVERSE",
    8: "ROTATE_90",
}
"""Its values, and what Pillow calls the way back to upright."""
_PPM_HEADER = re.compile(rb"P6" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")

# What a file may say of its model: keras_lapkl/tflite/metadata.rules.json, which explains it.
_RULES = json.loads(r"""
{
  "description": [
    "What a .tflite file may say of its model. keras_lapkl/tflite/metadata_rules.py,",
    "mobile/localize.py and mobile/web/rules.js apply it. The words are those of JSON Schema, and",
    "five more: `count`, a list is as long as that key says; `below`, an index is below what that",
    "key says; `rising`, numbers rise (true) or do not fall (false); `equalLengths`, of the lists",
    "with these keys; `maxDepth`, levels of the whole."
  ],
  "type": "object",
  "maxLength": 1048576,
  "maxDepth": 32,
  "required": ["keras_lapkl", "mode", "image_size", "num_landmarks", "input"],
  "properties": {
    "schema": {"type": "integer", "minimum": 0, "maximum": 1000000},
    "keras_lapkl": {"$ref": "version"},
    "mode": {"$ref": "word"},
    "image_size": {"type": "integer", "minimum": 1, "maximum": 4096},
    "num_landmarks": {"type": "integer", "minimum": 1, "maximum": 10000},
    "input": {
      "type": "object",
      "required": ["channels", "range"],
      "properties": {
        "channels": {"enum": ["RGB"]},
        "dtype": {"enum": ["float32", "uint8", "int8"]},
        "range": {
          "type": "array",
          "items": {"type": "number", "minimum": -1000, "maximum": 1000},
          "minItems": 2,
          "maxItems": 2,
          "rising": true
        }
      }
    },
    "float_layers": {"type": "array", "items": {"$ref": "word"}, "maxItems": 10000},
    "flip_average": {"type": "boolean"},
    "refined": {"type": "boolean"},
    "mirror": {"type": "boolean"},
    "units": {"$ref": "text"},
    "beta": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000000},
    "crop_scale": {"$ref": "crop_scale"},
    "crop": {"$ref": "text or null"},
    "scheme": {
      "type": ["object", "null"],
      "required": ["name", "names", "five_points"],
      "properties": {
        "name": {"$ref": "word"},
        "names": {"type": "array", "items": {"$ref": "word"}, "count": "num_landmarks"},
        "flip": {
          "type": ["array", "null"],
          "items": {"$ref": "landmark"},
          "count": "num_landmarks"
        },
        "eye_corners": {"$ref": "pair", "type": ["array", "null"]},
        "five_points": {
          "type": "array",
          "items": {
            "type": "array",
            "items": {"$ref": "landmark"},
            "minItems": 1,
            "maxItems": 10000
          },
          "maxItems": 1000
        },
        "edges": {"type": "array", "items": {"$ref": "pair"}, "maxItems": 100000},
        "crop_from": {"enum": ["points", "box", "image"]}
      }
    },
    "trained_on": {"$ref": "text or null"},
    "training_data": {"$ref": "training data"},
    "license": {"$ref": "text or null"},
    "licence": {"$ref": "text or null"},
    "calibration": {
      "type": ["object", "null"],
      "required": ["scales", "errors", "factors", "quantiles", "data", "faces"],
      "properties": {
        "scales": {"$ref": "knots", "rising": true},
        "errors": {"$ref": "knots", "rising": false},
        "factors": {"type": "array", "items": {"$ref": "size"}, "count": "num_landmarks"},
        "quantiles": {
          "type": "object",
          "propertyNames": {
            "type": "string",
            "maxLength": 20,
            "pattern": "^0\\.[0-9]{0,15}[1-9]$"
          },
          "additionalProperties": {
            "type": "array",
            "items": {"type": ["number", "null"], "minimum": 0, "maximum": 1000000},
            "count": "num_landmarks"
          }
        },
        "data": {"$ref": "text"},
        "faces": {"$ref": "number of faces"},
        "lost": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 1000000},
        "typical": {"type": "number", "exclusiveMinimum": 0, "maximum": 1000000},
        "across": {"type": "number", "minimum": -1, "maximum": 1},
        "within": {"type": "number", "minimum": -1, "maximum": 1}
      },
      "equalLengths": ["scales", "errors"]
    },
    "measured": {
      "type": ["object", "null"],
      "required": ["nme", "spread", "faces", "data", "normalizer", "crop_scale"],
      "properties": {
        "nme": {"$ref": "size"},
        "spread": {"$ref": "size"},
        "faces": {"$ref": "number of faces"},
        "data": {"$ref": "text"},
        "normalizer": {"$ref": "word"},
        "crop_scale": {"$ref": "crop_scale"}
      }
    }
  },
  "$defs": {
    "word": {"$ref": "text", "maxLength": 200},
    "version": {"type": "string", "maxLength": 100, "pattern": "^[0-9A-Za-z.!+_-]+$"},
    "text": {
      "type": "string",
      "maxLength": 10000,
      "pattern": "^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029\\ud800-\\udfff]*$"
    },
    "text or null": {"$ref": "text", "type": ["string", "null"]},
    "size": {"type": "number", "minimum": 0, "maximum": 1000000},
    "crop_scale": {"type": ["number", "null"], "exclusiveMinimum": 0, "maximum": 100},
    "landmark": {"type": "integer", "minimum": 0, "below": "num_landmarks"},
    "pair": {"type": "array", "items": {"$ref": "landmark"}, "minItems": 2, "maxItems": 2},
    "knots": {"type": "array", "items": {"$ref": "size"}, "minItems": 1, "maxItems": 1000},
    "number of faces": {"type": "integer", "minimum": 0, "maximum": 1000000000},
    "training data": {
      "type": ["object", "null"],
      "required": ["sets"],
      "properties": {
        "sets": {
          "type": "array",
          "maxItems": 1000,
          "items": {
            "type": "object",
            "required": ["name"],
            "properties": {
              "name": {"$ref": "text"},
              "count": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000000000},
              "total": {"type": ["integer", "null"], "minimum": 0, "maximum": 1000000000},
              "kind": {"$ref": "text"},
              "labeled": {"type": "boolean"},
              "license": {"$ref": "text or null"},
              "detail": {"$ref": "text"},
              "notes": {"type": "array", "items": {"$ref": "text"}, "maxItems": 1000}
            },
            "additionalProperties": false
          }
        },
        "teacher": {"$ref": "training data"},
        "initial_model": {"$ref": "training data"}
      }
    }
  }
}
""")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help=".tflite file of lapkl convert")
    parser.add_argument("--image", required=True, help="a crop of the model's size, or a photo")
    parser.add_argument("--box", help="x0,y0,x1,y1 of the face in pixels of the photo")
    parser.add_argument("--passes", type=int, default=2, help="runs of the network on a photo")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    try:
        _try(args.model, args.threads)
        localizer = Localizer(args.model, args.threads)
        picture = read_picture(args.image)
        box = args.box and [float(edge) for edge in args.box.split(",")]
        if box is None and localizer.crop_from != "image":
            found = localizer.in_crop(picture)
        else:
            found = localizer.in_photo(picture, box, args.passes)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(json.dumps({"model": args.model, "image": args.image, **found}))
    return 0


class Localizer:
    """The network and the crop that it is right on, both from the file."""

    def __init__(self, path, num_threads=1):
        content = read_bytes(path)
        metadata = read_metadata(content, path)
        self.image_size = metadata["image_size"]
        self.input = metadata["input"]
        self.crop_scale = metadata.get("crop_scale")
        self.scheme = metadata.get("scheme") or {}
        self.calibration = metadata.get("calibration")
        self.crop_from = self.scheme.get("crop_from", "points")
        if not 1 <= num_threads <= 1024:  # of 100,000 the interpreter ends the process
            raise ValueError(f"Expected 1 to 1,024 threads. Received: {num_threads:,}")
        try:
            # The bytes that were checked, and not the file again.
            interpreter = _interpreter_class()(model_content=content, num_threads=num_threads)
            self._run = interpreter.get_signature_runner("serving_default")
            size, count = self.image_size, metadata["num_landmarks"]
            image = self._run.get_input_details()["image"]["shape"].tolist()
            outputs = self._run.get_output_details()
            others = {"logits": ["logits"], "columns": ["columns", "rows"]}
            given = next((k for k in others if others[k] == sorted(outputs)), "landmarks")
            landmarks = outputs[given]["shape"].tolist()
        except (RuntimeError, ValueError, KeyError) as error:
            raise ValueError(f"The interpreter can't run {path}: {error}") from error
        if given == "logits":
            raise ValueError(
                f"{path} is not a localizer: it gives no landmarks, but logits for a decoding of "
                "your own. Convert it without --no_decode."
            )
        if given == "columns":
            raise ValueError(
                f"{path} is for microcontrollers: it gives no landmarks, but what the C code of "
                "`lapkl micro` makes them of. Take the int8 file that it was cut from."
            )
        if image != [1, size, size, 3] or landmarks != [count, 2]:
            raise ValueError(
                f"{path} has metadata of an image of {size} pixels and {count} landmarks, and "
                f"tensors of {image} and {landmarks}: convert the model again."
            )

    def in_crop(self, crop):
        """What is in a picture of exactly the model's size."""
        size = self.image_size
        if crop.shape != (size, size, 3):
            raise ValueError(
                f"Expected a crop of {size}x{size} pixels. Received: {crop.shape[1]}x"
                f"{crop.shape[0]}. Say by --box where the face is in a photo."
            )
        return self._in_pixels(crop)

    def _in_pixels(self, crop, mirrored=False):
        """What is in a picture of the model's size, or by its mirror image."""
        crop = crop[:, ::-1] if mirrored else crop
        low, high = self.input["range"]
        image = low + (high - low) * (crop[None].astype(np.float32) / 255)
        dtype = self.input.get("dtype", "float32")
        if dtype != "float32":
            image = np.rint(image)
        found = self._run(image=image.astype(dtype))
        landmarks, scale = found["landmarks"], found["scale"]
        if mirrored:
            flip = self.scheme["flip"]
            landmarks, scale = (self.image_size - 1, 0) - landmarks[flip] * (1, -1), scale[flip]
        return {
            "scheme": self.scheme.get("name"),
            "names": self.scheme.get("names"),
            "landmarks": landmarks.tolist(),
            "scale": scale.tolist(),
            **confidence(self.calibration, scale, landmarks),
        }

    def in_photo(self, photo, box=None, passes=2):
        """What is in a photo, in its pixels, and the square (cx, cy, side) that was cut out.

        The first square is a guess by the face box, each further one the model's crop rule on the
        landmarks before, unless these are worth nothing: their square is then of quite another
        size. With a calibration, every second pass sees the mirror image, passes that agree are
        averaged, and if the last two do not agree, there are up to two more. Where that rule is
        the box, or the whole picture, so is the only square.
        """
        if self.crop_scale is None:
            raise ValueError("The model's file has no crop rule: give a crop, and no --box.")
        if self.crop_from == "image":
            if box is not None:
                raise ValueError("The model takes whole pictures: drop --box.")
            height, width = photo.shape[:2]
            box = [-0.5, -0.5, width - 0.5, height - 0.5]
        if len(box) != 4 or not (box[0] < box[2] and box[1] < box[3]) or passes < 1:
            raise ValueError(
                "Expected a box x0,y0,x1,y1 with x0 < x1 and y0 < y1, and one pass or more. "
                f"Received: {box}, {passes}"
            )
        if self.crop_from != "image":
            _check_in(photo, box)
        groups = self.scheme.get("five_points")
        x, y, edge = _square(np.reshape(box, (2, 2)))
        if self.crop_from != "points":
            passes = 1
        elif groups:
            y, edge = y + _FIVE_BELOW_FACE_BOX * edge, _FIVE_BY_FACE_BOX * edge
        first = x, y, edge, 0.0
        found = self._by_passes(photo, first, passes)
        if self._unsure(found):
            found = self._look_around(photo, first, found)
        return found

    def _by_passes(self, photo, square, passes, cut_out=None):
        """What is in a square, and from the second pass on in that by the landmarks before."""
        found = self._in_square(photo, square, cut_out)
        return self._go_on(photo, found, square, passes, cut_out)

    def _go_on(self, photo, found, square, passes, cut_out):
        """What is found after all passes, from what the first found in its square."""
        groups, calibrated = self.scheme.get("five_points"), self.calibration is not None
        for i in range(1, passes + (_MORE if passes > 1 and calibrated else 0)):
            points = np.array(found["landmarks"])
            x, y, edge = _square([points[g].mean(0) for g in groups] if groups else points)
            if 1 / _RESIZED <= edge / square[2] <= _RESIZED:
                was_rotated, square = square[3], (x, y, edge, 0.0)
                turned = _face_square(points, groups) if self._is_face() else square
                square = turned if was_rotated or abs(turned[3]) > _UPRIGHT else square
            before, mirrored = found, calibrated and i % 2 == 1
            found = self._in_square(photo, square, cut_out, mirrored)
            agree = calibrated and self._join(before, found)
            if agree and i >= passes - 1:
                break
        return found

    def _join(self, before, after):
        """Whether two passes agree: the later one then has the mean of both, else larger errors."""
        first, second = np.array(before["landmarks"]), np.array(after["landmarks"])
        apart, error = np.hypot(*(second - first).T), np.array(after["error"])
        agree = bool(apart.mean() <= _AGREED * error.mean() < np.inf)
        if agree:
            after["landmarks"] = ((first + second) / 2).tolist()
        else:
            after["error"] = np.maximum(error, apart).tolist()
            if "radius" in after:
                radius = np.array(after["radius"], float)
                after["radius"] = _plain(radius * after["error"] / np.maximum(error, 1e-9))
        if "lost" in after:
            after["lost"] = not _relative_error(after) <= self.calibration["lost"]
        return agree

    def _in_square(self, photo, square, cut_out=None, mirrored=False):
        """What is in a square (cx, cy, edge of what it is cut by, angle) of a photo."""
        x, y, edge, angle = map(float, square)
        mirrored = mirrored and self.scheme.get("flip") is not None
        side = self.crop_scale * edge
        pixel = side / self.image_size
        crop = (cut_out or cut)(photo, [x, y, side], self.image_size, angle)
        found = self._in_pixels(crop, mirrored)
        # Pixel centers are at whole numbers: the middle of the crop is between two.
        from_middle = np.array(found["landmarks"]) - (self.image_size - 1) / 2
        points = np.array([x, y]) + pixel * from_middle @ _rotation(angle).T
        # As standard deviations go with a rotation.
        found["scale"] = np.sqrt(np.square(found["scale"]) @ np.square(_rotation(angle)).T)
        for name in {"scale", "error", "radius"} & set(found):
            found[name] = _plain(pixel * np.array(found[name], float))
        found |= {"landmarks": points.tolist(), "square": [x, y, side]}
        return {**found, "angle": angle} if angle else found

    def _unsure(self, found):
        """Whether a face may be lost, or upside down; not asked of what is no face."""
        if not self._is_face() or "lost" not in found:
            return False
        return not _relative_error(found) <= _UNSURE * self.calibration["lost"]

    def _is_face(self):
        """Whether crops are cut by a face's five points, which say what is up."""
        groups, eyes = self.scheme.get("five_points") or (), self.scheme.get("eye_corners")
        return self.crop_from == "points" and len(groups) == 5 and bool(eyes)

    def _look_around(self, photo, square, found):
        """The surest of what is found at and around the first square of a face."""
        seen = [found]
        for cut_out in _CUTS:
            seen.append(self._by_passes(photo, square, 2, cut_out))
            if not self._unsure(seen[-1]):
                return seen[-1]
        # In the other cuts faces that are rotated get worse.
        cut_out = _CUTS[0] if _relative_error(seen[1]) < _relative_error(found) else cut
        found = min(seen, key=_relative_error)
        x, y, edge, _ = square
        height, width = photo.shape[:2]

        def shows(square):
            x, y, edge, angle = square
            return _has_pixels(x, y, self.crop_scale * edge, angle, width, height)

        for ring in _RINGS:
            around = [(x + edge * r, y + edge * d, edge * ratio, a) for r, d, ratio, a in ring]
            seen = [(self._in_square(photo, at, cut_out), at) for at in around if shows(at)]
            for first, at in sorted(seen, key=lambda each: _relative_error(each[0]))[:_KEPT]:
                after = self._go_on(photo, first, at, 2, cut_out)
                found = min(found, after, key=_relative_error)
            if not found["lost"]:
                break
        return found


def _has_pixels(x, y, side, angle, width, height):
    """Whether a square has a pixel of its photo; rotated it reaches further."""
    reach = side / 2 * (abs(np.cos(angle)) + abs(np.sin(angle))) + 0.5
    places = ((x, width), (y, height))
    return 0 < side < np.inf and all(-reach < at < size - 1 + reach for at, size in places)


def _check_in(photo, box):
    """ValueError for a box in fractions of a photo, or beside it."""
    height, width = photo.shape[:2]
    if max(map(abs, box)) <= _LARGEST_FRACTION:
        raise ValueError(
            f"Expected boxes in pixels. Received: {box}, like fractions of the picture. Multiply "
            f"them by its width and height, {width}x{height}."
        )
    if not max(map(abs, box)) <= _FARTHEST:
        raise ValueError(f"Expected boxes within {_FARTHEST:.0f} pixels. Received: {box}")
    x0, y0, x1, y1 = box
    if x1 <= -0.5 or y1 <= -0.5 or x0 >= width - 0.5 or y0 >= height - 0.5:
        raise ValueError(
            f"Expected boxes about a part of the photo, which has {width}x{height} pixels. "
            f"Received: {box}"
        )


def _try(path, num_threads):
    """Runs a model once in a process of its own: the interpreter may end that of a damaged one.

    Raises:
        ValueError: it did, or took over a minute.
    """
    if not hasattr(os, "fork"):
        return
    child = os.fork()
    if not child:
        try:
            signal.alarm(60)
            localizer = Localizer(path, num_threads)
            localizer.in_crop(np.zeros((localizer.image_size, localizer.image_size, 3), np.uint8))
        finally:
            os._exit(0)  # what it raises the caller meets again
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        how = signal.Signals(os.WTERMSIG(status)).name
        raise ValueError(f"The interpreter can't run {path}: it is damaged ({how})")


def confidence(calibration, scale, landmarks):
    """Errors to expect, radii that hold the true points in 90 % of all cases, and `lost`.

    As `keras_lapkl.confidence.Calibration`: linear between the knots of a curve, in proportion
    beyond, with a factor for each landmark; radii by the face's mean error and by each of them,
    None where the calibration can't tell, left out where it can tell none. Empty without a
    calibration.
    """
    if calibration is None:
        return {}
    scales, errors = calibration["scales"], calibration["errors"]
    spread = np.mean(scale, axis=-1)
    curve = np.interp(spread, scales, errors)
    curve = np.where(spread > scales[-1], errors[-1] * spread / max(scales[-1], 1e-9), curve)
    error = np.array(calibration["factors"]) * curve
    found = {"error": error.tolist()}
    # None, a NaN here: the calibration had too few faces, or none with this point, to tell.
    quantiles = np.array(calibration["quantiles"].get("0.9", [None]), float)
    if np.isfinite(quantiles).any():
        error = np.maximum(error, 1e-9)
        by_face = (error.mean() / calibration.get("typical", 1)) ** calibration.get("across", 0)
        by_point = (error / error.mean()) ** calibration.get("within", 0)
        found["radius"] = _plain(error * by_face * by_point * quantiles)
    if calibration.get("lost") is not None:  # too few faces, likewise
        relative = _relative_error({"landmarks": landmarks, **found})
        found["lost"] = not relative <= calibration["lost"]
    return found


def _plain(values):
    """Numbers as JSON takes them, None in place of NaN."""
    return np.where(np.isnan(values), None, values).tolist()


def _relative_error(found):
    """Mean expected error of a face by how far its landmarks spread about their mean."""
    spread = np.sqrt(np.var(found["landmarks"], axis=0).sum())
    return float(np.mean(found["error"]) / spread) if spread > 0 else math.inf


def _stretched(crop):
    """A crop whose channels each fill the gray levels, but for what is black in all of them."""
    seen = crop[crop.any(-1)]
    if not len(seen):
        return crop
    places = [int(end * (len(seen) - 1) + 0.5) for end in _ENDS]
    counts = np.stack([np.bincount(channel, minlength=256) for channel in seen.T])
    ends = [np.searchsorted(each, places, side="right") for each in counts.cumsum(1)]
    low, high = np.transpose(ends)
    levels = (crop.astype(int) - low) * (255 / np.maximum(high - low, _NARROWEST))
    return np.floor(levels.clip(0, 255) + 0.5).astype(np.uint8)


def _sharpened(crop):
    """A crop with its edges made steeper: what a Gaussian takes away is added again."""
    size, deviation = len(crop), _BLUR * len(crop)
    reach = math.ceil(3 * deviation)
    weights = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) / deviation))
    places = np.clip(np.arange(size)[:, None] + np.arange(-reach, reach + 1), 0, size - 1)
    blur = np.zeros((size, size))
    np.add.at(blur, (np.arange(size)[:, None], places), weights / weights.sum())
    blurred = np.einsum("ih,hwc,jw->ijc", blur, crop, blur, optimize=True)
    return np.rint(crop + _SHARPNESS * (crop - blurred)).clip(0, 255).astype(np.uint8)


def _cut_stretched(*where):
    return _stretched(cut(*where))


def _cut_despeckled(*where):
    return _stretched(cut(*where, despeckle=True))


def _cut_sharpened(*where):
    return _sharpened(_cut_stretched(*where))


# Other ways to cut out a square of which the model is unsure.
_CUTS = (_cut_stretched, _cut_despeckled, _cut_sharpened)


def cut(photo, square, size, angle=0.0, despeckle=False):
    """The size by size uint8 crop of a square (cx, cy, side), antialiased where it shrinks.

    As `keras_lapkl.data.cropping.warp_crop`: the mean over each crop pixel of 3 by 3 bilinear
    samples or fewer, from a copy that is reduced first where the photo has more than 6 pixels to
    a crop pixel. Outside the photo its border pixels are repeated.
    """
    photo, (x, y, side) = _reduced(photo, square, size, angle, despeckle)
    if angle:
        return _cut_rotated(photo, (x, y, side), size, angle)
    rows = _weights(y - side / 2, side, size, photo.shape[0])
    columns = _weights(x - side / 2, side, size, photo.shape[1])
    # Only the part of a large photo that is looked at becomes floats.
    down, right = rows.any(0), columns.any(0)
    part = photo[down][:, right].astype(np.float32)
    crop = np.einsum("ih,hwc,jw->ijc", rows[:, down], part, columns[:, right], optimize=True)
    return np.rint(crop).astype(np.uint8)


def _reduced(photo, square, size, angle, despeckle):
    """What a crop needs of the photo, reduced by a power of two, and the square there.

    The reduced pixels are means of factor by factor pixels from the photo's first on, so that they
    do not depend on the square. The photo is filled up by its border's pixels.
    """
    x, y, side = square
    height, width = photo.shape[:2]
    factor = 1
    while side > _MOST_SHRINK * size * factor and 2 * factor <= min(height, width):
        factor *= 2
    if factor == 1 and not despeckle:
        return photo, square
    center = (np.array([x, y]) + 0.5) / factor - 0.5
    reach = side / factor / 2 * (abs(math.cos(angle)) + abs(math.sin(angle)))
    count = -(-np.array([width, height]) // factor)
    first = np.clip(np.floor(center - reach) - 1, 0, count - 1).astype(int)
    end = np.clip(np.floor(center + reach) + 3, first + 1, count).astype(int)
    (left, top), (right, bottom) = factor * first, factor * end
    part = photo[top:bottom, left:right]
    below, beside = max(bottom - height, 0), max(right - width, 0)
    if below or beside:
        part = np.pad(part, ((0, below), (0, beside), (0, 0)), "edge")
    part = _sums(_sums(part, factor).swapaxes(0, 1), factor).swapaxes(0, 1) / factor**2
    return _medians(part) if despeckle else part, (*(center - first), side / factor)


def _medians(photo):
    """The median of each 3 by 3 pixels, by those of sorted columns; the border is repeated."""
    filled = np.pad(photo, ((1, 1), (1, 1), (0, 0)), "edge")
    column = filled[:-2], filled[1:-1], filled[2:]
    sides = slice(None, -2), slice(1, -1), slice(2, None)
    lowest = functools.reduce(np.minimum, column)
    middle = _median(*column)
    highest = functools.reduce(np.maximum, column)
    return _median(
        functools.reduce(np.maximum, [lowest[:, side] for side in sides]),
        _median(*[middle[:, side] for side in sides]),
        functools.reduce(np.minimum, [highest[:, side] for side in sides]),
    )


def _median(a, b, c):
    return np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))


def _sums(rows, count):
    """The sums of `count` rows each."""
    total = rows[::count].astype(np.float32)
    for i in range(1, count):
        total += rows[i::count]
    return total


def _cut_rotated(photo, square, size, angle):
    """As `cut`, of a square that is rotated from the x axis to the y axis, radians."""
    x, y, side = square
    samples = _samples(side, size)
    step = side / (samples * size)
    ticks = (np.arange(samples * size) - (samples * size - 1) / 2) * step
    right, down = np.meshgrid(ticks, ticks)
    places = np.array([x, y]) + np.stack([right, down], -1) @ _rotation(angle).T
    height, width = photo.shape[:2]
    places = np.clip(places, 0, [width - 1, height - 1])
    before = np.minimum(places.astype(int), [max(width - 2, 0), max(height - 2, 0)])
    after = np.minimum(before + 1, [width - 1, height - 1])
    (x0, y0), (x1, y1) = np.moveaxis(before, -1, 0), np.moveaxis(after, -1, 0)
    fx, fy = np.moveaxis(places - before, -1, 0)[..., None].astype(np.float32)
    upper = (1 - fx) * photo[y0, x0] + fx * photo[y0, x1]
    lower = (1 - fx) * photo[y1, x0] + fx * photo[y1, x1]
    fine = (1 - fy) * upper + fy * lower
    return np.rint(fine.reshape(size, samples, size, samples, 3).mean((1, 3))).astype(np.uint8)


def _samples(side, size):
    """Samples along a pixel of the crop."""
    return max(1, min(int(np.ceil(side / size)), _MOST_SAMPLES, _MAX_SAMPLED_SIDE // size))


def _weights(first, side, size, count):
    """Weights (size, count) of a row's pixels in those of the crop."""
    samples = _samples(side, size)
    place = np.arange(samples * size)
    at = np.clip(first + (place + 0.5) * side / (samples * size), 0, count - 1)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, count - 1)
    weights = np.zeros((size, count), np.float32)
    np.add.at(weights, (place // samples, before), (1 - at + before) / samples)
    np.add.at(weights, (place // samples, after), (at - before) / samples)
    return weights


def _rotation(angle):
    """(2, 2), which turns columns from the x axis to the y axis."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _face_square(landmarks, groups):
    """Center x, center y and edge of the box of a face's five points, rotated as the face is.

    As `keras_lapkl.data.cropping.rotated_square`.
    """
    landmarks = np.array(landmarks)
    points = np.array([landmarks[group].mean(0) for group in groups])
    eyes, (x, y) = points[1] - points[0], points[3:].mean(0) - points[:2].mean(0)
    angle = math.atan2(eyes[1] - x, eyes[0] + y)
    rotation = _rotation(angle)
    *center, edge = _square(points @ rotation)
    return *(rotation @ np.array(center)), edge, angle


def _square(points):
    """Center x, center y and longer edge of the box of points."""
    first, last = np.min(points, 0), np.max(points, 0)
    return *(first + last) / 2, (last - first).max()


def read_bytes(path):
    """All bytes of a regular file: a pipe would never end, nor would a device."""
    if os.path.isdir(path):
        raise ValueError(f"{path}: expected a file. Received: a folder")
    handle = os.open(path, os.O_RDONLY | _WITHOUT_WAITING)
    with os.fdopen(handle, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise ValueError(f"{path}: expected a regular file of at most {_MAX_BYTES} bytes.")
        return file.read(status.st_size)


def read_metadata(content, path):
    """What `lapkl convert` wrote into the bytes of a .tflite file; a dict that keeps the rules."""
    text = find_metadata(content, path)
    try:
        data = parse_metadata(text, _RULES)
        schema = data.get("schema", 0) if isinstance(data, dict) else 0
        newer = isinstance(schema, int) and schema > _SCHEMA
        if not newer:
            check_metadata(data, _RULES)
    except ValueError as error:
        raise ValueError(f"{path} has metadata that break a rule: {error}") from error
    if newer:
        raise ValueError(
            f"{path} has metadata of schema {schema}; this localize.py reads up to schema "
            f"{_SCHEMA}. Copy a newer one from keras_lapkl."
        )
    return data


def find_metadata(content, path):
    """The text of JSON in the bytes of a .tflite file; read without TFLite's schema."""
    if content[4:8] != b"TFL3":
        raise ValueError(f"{path} is not a TFLite file: bytes 4 to 7 are not TFL3.")

    def number(kind, position):
        return struct.unpack_from("<" + kind, content, position)[0]

    def follow(position):
        return position + number("I", position)

    def field(table, index):
        """Where the field of a table with this number in the schema is; 0 if it is left out."""
        directory = table - number("i", table)
        slot = 4 + 2 * index
        place = number("H", directory + slot) if slot < number("H", directory) else 0
        return place and table + place

    def vector(position):
        """Where the elements of a vector begin, and how many there are."""
        start = follow(position) + 4 if position else 4
        return start, number("I", start - 4) if position else 0

    def text(position):
        start, length = vector(position)
        return content[start : start + length].decode()

    try:
        model = follow(0)
        buffers, _ = vector(field(model, 4))
        entries, count = vector(field(model, 6))
        for entry in (follow(entries + 4 * i) for i in range(count)):
            if text(field(entry, 0)) == "keras_lapkl":
                buffer = follow(buffers + 4 * number("I", field(entry, 1)))
                return text(field(buffer, 0))
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is a damaged TFLite file: {error}") from error
    raise ValueError(f"{path} says nothing of crop and landmarks: convert it by lapkl convert.")


def parse_metadata(text, rules):
    """The data in a text of JSON; ValueError if it is none, too long or too deep."""
    if len(text) > rules["maxLength"]:
        raise ValueError(f"expected at most {rules['maxLength']} characters. Received: {len(text)}")
    try:
        data = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    layer, depth = [data], 0
    while layer := [
        item
        for each in layer
        if isinstance(each, (list, dict))
        for item in (each.values() if isinstance(each, dict) else each)
    ]:
        depth += 1
        if depth > rules["maxDepth"]:
            raise ValueError(f"expected at most {rules['maxDepth']} levels")
    return data


def check_metadata(data, rules):
    """ValueError with the place if plain data breaks a rule."""
    problem = find_problem(data, rules, rules, data, "it")
    if problem:
        raise ValueError(problem)


def find_problem(value, rule, rules, whole, place):
    """The first thing in plain data that breaks a rule, as a line; None if nothing does.

    Args:
        value: the data.
        rule: the rule for it.
        rules: the table, whose `$defs` are rules by name.
        whole: all data, one of whose keys may be the bound of others.
        place: where the value is, for the line.
    """
    while "$ref" in rule:
        rule = {**rules["$defs"][rule["$ref"]], **{k: v for k, v in rule.items() if k != "$ref"}}

    def unless(right, expected):
        shown = ascii(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        return None if right else f"{place}: expected {expected}. Received: {shown}"

    def bound(word):
        found = whole.get(rule[word]) if isinstance(whole, dict) else None
        return found if isinstance(found, int) and not isinstance(found, bool) else 0

    if "enum" in rule:
        return unless(value in rule["enum"], f"one of {rule['enum']}")
    kinds = rule["type"] if isinstance(rule["type"], list) else [rule["type"]]
    kind = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string"}
    kind = {**kind, list: "array", dict: "object"}[type(value)]
    if kind not in kinds and not (kind == "integer" and "number" in kinds):
        return unless(False, " or ".join(kinds))
    if kind in ("integer", "number"):
        low, above = rule.get("minimum", -math.inf), rule.get("exclusiveMinimum", -math.inf)
        high = rule.get("maximum", math.inf)
        if "below" in rule:
            high = bound("below") - 1
        right = math.isfinite(value) if kind == "number" else True
        right = right and low <= value <= high and value > above
        least = f"above {above}" if math.isfinite(above) else f"from {low}"
        return unless(right, f"a number {least} to {high}")
    if kind == "string":
        if len(value) > rule["maxLength"]:
            return unless(False, f"at most {rule['maxLength']} characters")
        return unless(re.fullmatch(rule["pattern"], value), f"characters as in {rule['pattern']}")
    if kind == "array":
        count = bound("count") if "count" in rule else None
        if count is not None and len(value) != count:
            return unless(False, f"{count} entries")
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            least, most = rule.get("minItems", 0), rule["maxItems"]
            return unless(False, f"{least} to {most} entries")
        for i, item in enumerate(value):
            problem = find_problem(item, rule["items"], rules, whole, f"{place}[{i}]")
            if problem:
                return problem
        if "rising" in rule:
            pairs = zip(value, value[1:])  # noqa: B905, RUF007  Python 3.9 has neither
            right = all(a < b if rule["rising"] else a <= b for a, b in pairs)
            return unless(right, "numbers that rise" if rule["rising"] else "none that falls")
    if kind == "object":
        missing = [name for name in rule.get("required", []) if name not in value]
        if missing:
            return f"{place} lacks a key: {', '.join(map(repr, missing))}"
        others = rule.get("additionalProperties", True)
        for name, item in value.items():
            below = rule.get("properties", {}).get(name, others)
            at = name if value is whole else f"{place}.{name}"
            problem = None
            if "propertyNames" in rule:
                problem = find_problem(name, rule["propertyNames"], rules, whole, f"key of {place}")
            if below is False:
                problem = f"{place}: unknown key {ascii(name)[:60]}"
            if problem is None and below is not True:
                problem = find_problem(item, below, rules, whole, at)
            if problem:
                return problem
        if "equalLengths" in rule:
            right = len({len(value[name]) for name in rule["equalLengths"]}) == 1
            return unless(right, f"{' and '.join(rule['equalLengths'])} of one length")
    return None


def _refuse(constant):
    raise ValueError(f"{constant} is not JSON")


def read_picture(path):
    """(H, W, 3) uint8 RGB. The content decides the format, not the name."""
    data = read_bytes(path)
    try:
        if data.startswith(b"\x93NUMPY"):
            picture = np.load(io.BytesIO(data), allow_pickle=False)
        elif data.startswith(b"P6"):
            picture = _read_ppm(data)
        else:
            picture = _read_by_pillow(data)
    except ImportError as error:
        raise ImportError(f"{path} is not a .npy or binary .ppm: pip install pillow") from error
    except Exception as error:  # decoders raise all kinds
        raise ValueError(f"{path} is not an intact image: {error}") from error
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3 or not picture.size:
        raise ValueError(
            f"{path}: expected (H, W, 3) uint8. Received: {picture.shape} {picture.dtype}"
        )
    if min(picture.shape[:2]) < _MIN_SIDE:
        raise ValueError(
            f"{path}: expected at least {_MIN_SIDE} pixels a side. Received: "
            f"{picture.shape[1]}x{picture.shape[0]}"
        )
    return picture


def _read_ppm(data):
    header = _PPM_HEADER.match(data)
    if not header or int(header[3]) != 255:
        raise ValueError("expected P6, width, height and 255 at its head")
    width, height = int(header[1]), int(header[2])
    pixels = np.frombuffer(data, np.uint8, 3 * width * height, header.end())
    return pixels.reshape(height, width, 3)


def _read_by_pillow(data):
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # which is below what phones take, and only warns
    try:
        picture = Image.open(io.BytesIO(data))
    except UnidentifiedImageError as error:  # which names the bytes in memory
        raise ValueError(
            "expected a JPEG, PNG, BMP or WebP file. Save it as JPEG or PNG"
        ) from error
    if picture.format not in _FORMATS:
        raise ValueError(
            f"expected a JPEG, PNG, BMP or WebP file. Received: {picture.format}. Save it as JPEG "
            "or PNG"
        )
    if picture.width * picture.height > _MAX_PIXELS:
        raise ValueError(
            f"expected at most {_MAX_PIXELS // 10**6} megapixels. Received: "
            f"{picture.width}x{picture.height}. Scale it down"
        )
    picture.load()
    exif = Image.Exif()
    exif.load(picture.info.get("exif", b""))  # alone: the package knows no orientation in XMP
    turn = _TURNS.get(exif.get(_ORIENTATION))
    upright = picture if turn is None else picture.transpose(getattr(Image, turn))
    if upright.mode.startswith("I"):  # 16 bits, which `convert` would clip to 8
        gray = (np.clip(np.asarray(upright), 0, 65535) // 256).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    return np.array(upright.convert("RGB"))


def _interpreter_class():
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError:
            pass
    raise ImportError("No interpreter is installed: pip install ai-edge-litert")


if __name__ == "__main__":
    sys.exit(main())
