"""A C header of a file for microcontrollers: its bytes, what it takes and gives, the decoding."""

import pathlib
import re

from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer, inspection, metadata, runner

_SOURCE = pathlib.Path(__file__).with_name("landmarks.h")
_PER_LINE = 16
_MOST_STEPS = 256  # LAPKL_MAX_STEPS of landmarks.h
_IN_COMMENT = re.compile(r"(?<=\*)(?=/)|(?<=/)(?=\*)|(?<=\?)(?=\?)")  # ends, begins, trigraphs


def check_name(name: str) -> None:
    """ValueError unless a name can begin names in C."""
    if name.lower().startswith("lapkl"):
        raise ValueError(
            "Expected a header whose name does not begin with lapkl, as names in the header itself "
            f"do. Received: {name!r}"
        )
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise ValueError(
            f"Expected a header named as a C identifier, such as face.h. Received: {name!r}"
        )


def c_header(content: bytes, name: str, arena_bytes: int, path: PathLike = "this file") -> str:
    """The text of a C header that holds a file of `lapkl micro` whole, for C99 and C++11.

    It has the file's bytes, aligned and `const`; macros for the image, the outputs, their steps and
    zero points, the arena and the operators to register; and `lapkl_decode`, which makes landmarks
    and scales of the outputs, with `<math.h>` alone.

    Args:
        content: the bytes of a .tflite file for microcontrollers.
        name: of the model, which all names in the header begin with, such as `"face"`.
        arena_bytes: that the interpreter needs, > 0: see `arena.needed`.
        path: the file that the bytes are from, for messages.

    Raises:
        ValueError: it is not a file of `lapkl micro`, or `name` is no C identifier or begins with
            `lapkl`.

    Example:

    >>> text = c_header(pathlib.Path("face.tflite").read_bytes(), "face", 85760)
    >>> "static const unsigned char face_model[FACE_MODEL_BYTES]" in text
    True
    """
    check_name(name)
    if arena_bytes < 1:
        raise ValueError(f"`arena_bytes` must be at least 1. Received: {arena_bytes}")
    model = flatbuffer.parse(content, path)
    about, tensors = metadata.read(model, path), _tensors(model)
    if about is None or tuple(tensors) != (runner.INPUT, *runner.AXES):
        raise ValueError(
            f"{path} is not a file for microcontrollers: expected int8 {runner.INPUT!r} to "
            f"{runner.AXES}. Make it of an int8 file: lapkl micro MODEL-int8.tflite "
            "--output=MODEL.tflite"
        )
    columns, rows = (tensors[axis] for axis in runner.AXES)
    if any(tensor.quantization is None for tensor in tensors.values()) or any(
        len(each if each is not None else ()) != 1
        for tensor in tensors.values()
        for each in (tensor.quantization.scale, tensor.quantization.zeroPoint)
    ):
        raise ValueError(f"{path} has an image or outputs that are not in int8.")
    steps, count = int(columns.shape[2]), int(columns.shape[3])
    if steps > _MOST_STEPS:
        raise ValueError(f"{path} is of images of over {2 * _MOST_STEPS} pixels.")
    image = tensors[runner.INPUT]
    operators = sorted({operator.name for operator in inspection.operators(model)})
    upper = name.upper()
    values = {
        "IMAGE_SIZE": (about.image_size, "image[S][S][3], int8 RGB: the byte - 128"),
        "IMAGE_SCALE": (_float(_step(image)), "1/255: black is -128, white 127"),
        "IMAGE_ZERO_POINT": (_zero(image), ""),
        "LANDMARKS": (count, "K"),
        "STEPS": (steps, "columns[steps][K], the model's output 0, and rows[steps][K], 1"),
        "COLUMNS_SCALE": (_float(_step(columns)), ""),
        "COLUMNS_ZERO_POINT": (_zero(columns), ""),
        "ROWS_SCALE": (_float(_step(rows)), ""),
        "ROWS_ZERO_POINT": (_zero(rows), ""),
        "BETA": (_float(about.beta), "inverse temperature of the softmax"),
        "ARENA_BYTES": (arena_bytes, "of TFLite Micro's tensor arena"),
        "OPERATORS": (len(operators), f"kinds: {', '.join(operators)}"),
        "MODEL_BYTES": (len(content), ""),
    }
    defines = [
        f"#define {upper}_{key} {value}" + (f" /* {_comment(said)} */" if said else "")
        for key, (value, said) in values.items()
    ]
    source = _SOURCE.read_text(encoding="utf-8")
    return "\n".join(
        [
            f"/* {_comment(pathlib.Path(path).name)}, by lapkl micro of keras_lapkl "
            f"{_comment(about.keras_lapkl)}.",
            *(f"   {_comment(line)}" for line in _said(about)),
            "*/",
            f"#ifndef {upper}_H",
            f"#define {upper}_H",
            "",
            source,
            *defines,
            "",
            f"LAPKL_ALIGNED static const unsigned char {name}_model[{upper}_MODEL_BYTES] = {{",
            *_rows(content),
            "};",
            "",
            "/* Landmarks and scales, [K][2] in pixels of the image, x first, of both outputs. */",
            f"static inline void {name}_decode(const int8_t *columns, const int8_t *rows,",
            f"{' ' * len(f'static inline void {name}_decode(')}float *landmarks, float *scales) {{",
            f"  lapkl_decode(columns, rows, {upper}_STEPS, {upper}_LANDMARKS,",
            f"               {upper}_COLUMNS_SCALE * {upper}_BETA, {upper}_ROWS_SCALE * "
            f"{upper}_BETA,",
            "               landmarks, scales);",
            "}",
            "",
            f"#endif /* {upper}_H */",
            "",
        ]
    )


def _said(about):
    """What people must know who use the model: of whom, how cut and under which license."""
    said = [
        about.trained_on and f"Trained on {about.trained_on}.",
        about.crop and f"Crop: {about.crop}",
        about.license and f"License of the model: {about.license}.",
    ]
    return [line for line in said if line]


def _comment(text):
    """A stranger's text as a part of a comment: it neither ends it nor goes on in the next line."""
    plain = "".join(c if c.isprintable() and c != "\\" else " " for c in text)
    return _IN_COMMENT.sub(" ", plain)


def _tensors(model):
    """{name: tensor} of what a graph takes and gives, in this order."""
    graph = model.subgraphs[0]
    found = [graph.tensors[index] for index in (*graph.inputs, *graph.outputs)]
    return {tensor.name.decode(): tensor for tensor in found}


def _step(tensor):
    return float(tensor.quantization.scale[0])


def _zero(tensor):
    return int(tensor.quantization.zeroPoint[0])


def _float(value):
    """A C float that reads back as the same float32."""
    text = f"{value:.9g}"
    return f"{text}f" if any(c in text for c in ".e") else f"{text}.0f"


def _rows(content):
    lines = (content[i : i + _PER_LINE] for i in range(0, len(content), _PER_LINE))
    return [f"  {', '.join(f'0x{byte:02x}' for byte in line)}," for line in lines]
