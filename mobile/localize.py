"""Finds the landmarks of one face by a .tflite file, with NumPy and an interpreter alone.

Copy this one file beside the model, to a Raspberry Pi or into a Debian in Termux:

    pip install numpy ai-edge-litert
    python localize.py --model=int8.tflite --image=photo.ppm --box=210,95,420,330
    python localize.py --model=int8.tflite --image=crop.npy

A model of whole pictures takes a photo without --box. Takes .npy (H, W, 3) uint8 RGB and binary
.ppm, and what Pillow reads where it is installed. Prints JSON: landmarks and their scales in pixels
of that picture, x first, pixel centers at whole numbers from 0; and if the file is calibrated, the
error to expect of each landmark, and the radius that holds the true point in 90 % of all cases.
Exits with 1 on what it cannot use, and says why.
"""

import argparse
import importlib
import io
import json
import pathlib
import re
import struct
import sys

import numpy as np

# The five points' box from a face box, as keras_lapkl/data/crops.py has it: edge, and offset in y.
_FIVE_BY_FACE_BOX, _FIVE_BELOW_FACE_BOX = 0.42, -0.01

_SCHEMA = 1  # the newest of keras_lapkl/tflite/metadata.py whose keys this file knows
_MAX_SUPERSAMPLED_SIDE = 4096
_PPM_HEADER = re.compile(rb"P6" + 3 * rb"(?:\s|#[^\n]*\n)+(\d+)" + rb"\s")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", required=True, help=".tflite file of tools/convert.py")
    parser.add_argument("--image", required=True, help="a crop of the model's size, or a photo")
    parser.add_argument("--box", help="x0,y0,x1,y1 of the face in pixels of the photo")
    parser.add_argument("--passes", type=int, default=2, help="runs of the network on a photo")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    try:
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
        metadata = read_metadata(path)
        schema = metadata.get("schema", 0)
        if schema > _SCHEMA:
            raise ValueError(
                f"{path} has metadata of schema {schema}; this localize.py reads up to schema "
                f"{_SCHEMA}. Copy a newer one from keras_lapkl."
            )
        self.image_size = metadata["image_size"]
        self.input = metadata["input"]
        self.crop_scale = metadata["crop_scale"]
        self.scheme = metadata["scheme"] or {}
        self.calibration = metadata.get("calibration")
        self.crop_from = self.scheme.get("crop_from", "points")
        try:
            interpreter = _interpreter_class()(str(path), num_threads=num_threads)
            self._run = interpreter.get_signature_runner("serving_default")
        except (RuntimeError, ValueError) as error:
            raise ValueError(f"The interpreter can't run {path}: {error}") from error

    def in_crop(self, crop):
        """What is in a picture of exactly the model's size."""
        size = self.image_size
        if crop.shape != (size, size, 3):
            raise ValueError(
                f"Expected a crop of {size}x{size} pixels. Received: {crop.shape[1]}x"
                f"{crop.shape[0]}. Say by --box where the face is in a photo."
            )
        low, high = self.input["range"]
        image = low + (high - low) * (crop[None].astype(np.float32) / 255)
        dtype = self.input.get("dtype", "float32")
        if dtype != "float32":
            image = np.rint(image)
        found = self._run(image=image.astype(dtype))
        return {
            "scheme": self.scheme.get("name"),
            "names": self.scheme.get("names"),
            "landmarks": found["landmarks"].tolist(),
            "scale": found["scale"].tolist(),
            **confidence(self.calibration, found["scale"]),
        }

    def in_photo(self, photo, box=None, passes=2):
        """What is in a photo, in its pixels, and the square (cx, cy, side) that was cut out.

        The first square is a guess by the face box, each further one the model's crop rule on the
        landmarks of the one before. Where that rule is the box, or the whole picture, so is the
        only square.
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
        groups = self.scheme.get("five_points")
        x, y, edge = _square(np.reshape(box, (2, 2)))
        if self.crop_from != "points":
            passes = 1
        elif groups:
            y, edge = y + _FIVE_BELOW_FACE_BOX * edge, _FIVE_BY_FACE_BOX * edge
        for _ in range(passes):
            if not 0 < edge < np.inf:
                raise ValueError(f"No face there: its square would have an edge of {edge:g} px.")
            side = float(self.crop_scale * edge)
            square = [float(x), float(y), side]
            pixel = side / self.image_size
            found = self.in_crop(cut(photo, square, self.image_size))
            # Pixel centers are at whole numbers: the corner of the crop is half a pixel off.
            corner = np.array([x, y]) + (pixel - side) / 2
            points = corner + pixel * np.array(found["landmarks"])
            x, y, edge = _square([points[g].mean(0) for g in groups] if groups else points)
        for name in {"scale", "error", "radius"} & set(found):
            found[name] = (pixel * np.array(found[name], float)).tolist()
        return {**found, "landmarks": points.tolist(), "square": square}


def confidence(calibration, scale):
    """Errors to expect, and radii that hold the true points in 90 % of all cases, by the scales.

    As `keras_lapkl.confidence.Calibration`: linear between the knots of a curve, in proportion
    beyond, with a factor for each landmark. Empty without a calibration.
    """
    if calibration is None:
        return {}
    scales, errors = calibration["scales"], calibration["errors"]
    spread = np.mean(scale, axis=-1)
    curve = np.interp(spread, scales, errors)
    curve = np.where(spread > scales[-1], errors[-1] * spread / max(scales[-1], 1e-9), curve)
    error = np.array(calibration["factors"]) * curve
    found = {"error": error.tolist()}
    quantiles = calibration["quantiles"].get("0.9", [None])
    if None not in quantiles:  # None: the calibration had too few faces to tell
        found["radius"] = (error * np.array(quantiles)).tolist()
    return found


def cut(photo, square, size):
    """The size by size uint8 crop of a square (cx, cy, side), antialiased where it shrinks.

    As `keras_lapkl.data.cropping.warp_crop`: bilinear at one sample or more for each photo pixel,
    then the mean over each crop pixel. Outside the photo its border pixels are repeated.
    """
    x, y, side = square
    rows = _weights(y - side / 2, side, size, photo.shape[0])
    columns = _weights(x - side / 2, side, size, photo.shape[1])
    # Only the part of a large photo that is looked at becomes floats.
    down, right = rows.any(0), columns.any(0)
    part = photo[down][:, right].astype(np.float32)
    crop = np.einsum("ih,hwc,jw->ijc", rows[:, down], part, columns[:, right], optimize=True)
    return np.rint(crop).astype(np.uint8)


def _weights(first, side, size, count):
    """Weights (size, count) of a row's pixels in those of the crop."""
    samples = max(1, min(int(np.ceil(side / size)), _MAX_SUPERSAMPLED_SIDE // size))
    place = np.arange(samples * size)
    at = np.clip(first + (place + 0.5) * side / (samples * size), 0, count - 1)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, count - 1)
    weights = np.zeros((size, count), np.float32)
    np.add.at(weights, (place // samples, before), (1 - at + before) / samples)
    np.add.at(weights, (place // samples, after), (at - before) / samples)
    return weights


def _square(points):
    """Center x, center y and longer edge of the box of points."""
    first, last = np.min(points, 0), np.max(points, 0)
    return *(first + last) / 2, (last - first).max()


def read_metadata(path):
    """What tools/convert.py wrote into a .tflite file, a dict; read without TFLite's schema."""
    content = pathlib.Path(path).read_bytes()
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
                return json.loads(text(field(buffer, 0)))
    except (struct.error, ValueError) as error:
        raise ValueError(f"{path} is a damaged TFLite file: {error}") from error
    raise ValueError(f"{path} says nothing of crop and landmarks: convert it by tools/convert.py.")


def read_picture(path):
    """(H, W, 3) uint8 RGB. The content decides the format, not the name."""
    data = pathlib.Path(path).read_bytes()
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
    return picture


def _read_ppm(data):
    header = _PPM_HEADER.match(data)
    if not header or int(header[3]) != 255:
        raise ValueError("expected P6, width, height and 255 at its head")
    width, height = int(header[1]), int(header[2])
    pixels = np.frombuffer(data, np.uint8, 3 * width * height, header.end())
    return pixels.reshape(height, width, 3)


def _read_by_pillow(data):
    from PIL import Image, ImageOps

    return np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def _interpreter_class():
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            return importlib.import_module(f"{package}.interpreter").Interpreter
        except ImportError:
            pass
    raise ImportError("No interpreter is installed: pip install ai-edge-litert")


if __name__ == "__main__":
    sys.exit(main())
