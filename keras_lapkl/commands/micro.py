"""Cuts an int8 file for a microcontroller, and writes it as a C header.

    lapkl micro --output=face.tflite fpn-eighth-300w-int8
    lapkl micro --output=face.h face.tflite

A .tflite output keeps the int8 network alone, from int8 bytes to the largest logits of the columns
and rows, with the maps made in parts: what TFLite Micro runs in the least memory, and Ethos-U as a
whole. The library reads such a file as any other. A .h output is C99 and C++11: the file's bytes,
its scales and sizes, the arena that it needs, and the code that makes landmarks of its outputs.
MODEL is an int8 file of a MobileFPN by `lapkl convert`, one that is cut already, or a shipped
model's name. A refinement (`lapkl refine`) is left out: its table would be as large as the network,
and the landmarks are those before it. The arena is measured with TFLite Micro (the extra `micro`),
or given.
"""

# To a type checker a flag may be None and any text: its parser has seen to that.
# pyright: reportArgumentType=false

import pathlib
import re

from absl import app as absl_app, flags

from keras_lapkl._support.console import print

ARGUMENTS = "files"

_OUTPUT = flags.DEFINE_string("output", None, "A .tflite file, or a .h file.", required=True)
_ARENA_BYTES = flags.DEFINE_integer(
    "arena_bytes",
    None,
    "Bytes of the tensor arena, for the header; measured with TFLite Micro if not given.",
    lower_bound=1,
)


def _measured(arena, content, path):
    """Bytes of the arena by TFLite Micro."""
    try:
        return arena.needed(content, path)["total"]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}, or give --arena_bytes.") from error


def main(argv):
    from keras_lapkl import pretrained
    from keras_lapkl._support.files import check_outputs, replacing, sweep
    from keras_lapkl.tflite import arena, c_header, flatbuffer, metadata, runner

    if len(argv) != 2:
        raise absl_app.UsageError("Expected one .tflite file, or a shipped model's name.")
    output = pathlib.Path(_OUTPUT.value)
    if output.suffix not in (".tflite", ".h"):
        raise ValueError(f"--output must be a .tflite or a .h file. Received: {output}")
    header = output.suffix == ".h"
    if _ARENA_BYTES.value is not None and not header:
        raise ValueError("--arena_bytes is for a header: expected --output with the suffix .h.")
    name = re.sub(r"\W", "_", output.stem, flags=re.ASCII)
    if header:
        c_header.check_name(name)
    path = pretrained.resolve(argv[1], (".tflite",))
    check_outputs([output], [path])
    content = flatbuffer.read_bytes(path)
    model = flatbuffer.parse(content, path)
    if not set(runner.AXES) <= set(flatbuffer.signature_shapes(model)):
        from keras_lapkl.export import micro

        content = micro.for_micro(content, path)
        about = metadata.read(model, path)
        if about is not None and about.refined:
            print("The refinement is left out: the landmarks are those before it.")
    sweep(output.parent, below=False)
    with replacing(output) as temporary:
        if not header:
            temporary.write_bytes(content)
            size = len(content)
        else:
            size = _ARENA_BYTES.value or _measured(arena, content, path)
            temporary.write_text(c_header.c_header(content, name, size, path), encoding="utf-8")
    told = f"{len(content):,} bytes" + (f", and an arena of {size:,}" if header else "")
    print(f"{output}: {told}")
