"""Whether the bytes of a .tflite file are what its schema says, before anything follows an offset.

A flatbuffer is tables that point to others by offsets. The interpreter follows them unchecked: one
that leads out of the file ends the process.
"""

import collections
import functools
import re
import struct
from typing import Any, NamedTuple, NoReturn

from keras_lapkl.tflite.schema import schema

MAX_TABLES = 50_000
"""Of a file. A shipped model has 1,000; the walk takes some seconds for as many as this."""

_SHARED = 4
"""How many times its own size a file may seem to have, by texts and numbers that tables share."""

# The fields of tables that lead to texts, to tables, and (in lists) to many tables. Those that the
# schema has as vectors of numbers need no line. What is left out here is refused: sparse tensors,
# data beyond the flatbuffer and StableHLO, none of which a landmark model has.
_LEADS: dict[str, dict[str, Any]] = {
    "Model": {
        "OperatorCodes": ["OperatorCode"],
        "Subgraphs": ["SubGraph"],
        "Description": "text",
        "Buffers": ["Buffer"],
        "Metadata": ["Metadata"],
        "SignatureDefs": ["SignatureDef"],
    },
    "OperatorCode": {"CustomCode": "text"},
    "SubGraph": {"Tensors": ["Tensor"], "Operators": ["Operator"], "Name": "text"},
    "Tensor": {"Name": "text", "Quantization": "QuantizationParameters"},
    "Operator": {"BuiltinOptions": "options"},
    "Metadata": {"Name": "text"},
    "SignatureDef": {"Inputs": ["TensorMap"], "Outputs": ["TensorMap"], "SignatureKey": "text"},
    "TensorMap": {"Name": "text"},
    "VarHandleOptions": {"Container": "text", "SharedName": "text"},
}
_WRITER = re.compile(r"(?P<table>\w+?)Add(?P<field>[A-Z]\w*)")
_SCALAR = re.compile(r"Prepend(?:Bool|[A-Za-z]+?(\d+))Slot")


class _Field(NamedTuple):
    """Of a table in the schema.

    Attributes:
        name: as the code that LiteRT generates has it.
        size: bytes in the table.
        lead: what it leads to, as in `_LEADS`; bytes of a number where it leads to many; None if it
            holds a number itself.
    """

    name: str
    size: int
    lead: Any


def verify(content: bytes) -> None:
    """Raises ValueError with the place if the bytes are no sound flatbuffer of TFLite's schema.

    Each table, text and vector lies within the file, and together they are no more than the file
    can hold: tables that point to the same ones over and over would be read without an end.
    """
    _Walk(content).table(0, "Model")


class _Walk:
    def __init__(self, content):
        self.content = content
        self.tables = 0
        self.bytes = 0

    def number(self, kind, position):
        size = struct.calcsize(kind)
        if not 0 <= position <= len(self.content) - size:
            self.fail(f"an offset to byte {position} of {len(self.content)}")
        return struct.unpack_from(f"<{kind}", self.content, position)[0]

    def fail(self, what) -> NoReturn:
        raise ValueError(f"it has {what}")

    def count(self, size):
        self.bytes += size
        if self.bytes > _SHARED * len(self.content):
            self.fail("tables or vectors that are used over and over")

    def table(self, position, name):
        """The table that the offset at a position leads to, and all below it."""
        start = position + self.number("I", position)
        places, size = self.places(start, name)
        self.tables += 1
        if self.tables > MAX_TABLES:
            self.fail(f"more than {MAX_TABLES:,} tables")
        self.count(size)
        for slot, place in places.items():
            field = _fields(name).get(slot)
            if field is None:
                continue  # newer than this interpreter, which does not look at it either
            if place + field.size > size or (start + place) % field.size:
                self.fail(f"a {name} at byte {start} that ends before its {field.name}")
            if field.lead is not None:
                self.follow(start, places, name, slot, field)

    def places(self, start, name):
        """Where the fields of a table are, from its start; and its size."""
        directory = start - self.number("i", start)
        length = self.number("H", directory)
        size = self.number("H", directory + 2)
        if start % 4 or directory % 2 or length % 2 or length < 4 or size < 4:
            self.fail(f"a damaged {name} at byte {start}")
        if directory + length > len(self.content) or start + size > len(self.content):
            self.fail(f"a {name} at byte {start} that leads out of the file")
        slots = struct.unpack_from(f"<{length // 2 - 2}H", self.content, directory + 4)
        return {slot: place for slot, place in enumerate(slots) if place}, size

    def follow(self, start, places, name, slot, field):
        position, lead = start + places[slot], field.lead
        if isinstance(lead, list):
            first, count = self.vector(position, 4)
            for i in range(count):
                self.table(first + 4 * i, lead[0])
        elif isinstance(lead, int):
            self.vector(position, lead)
        elif lead == "text":
            first, count = self.vector(position, 1)
            try:
                self.content[first : first + count].decode()
            except UnicodeDecodeError:
                self.fail(f"a {field.name} of {name} at byte {first} that is not UTF-8")
        elif lead == "options":
            # The slot before a union's has the number of its table.
            kind = self.number("B", start + places[slot - 1]) if slot - 1 in places else 0
            if kind not in _option_tables():
                self.fail(f"operator options of the unknown kind {kind}")
            self.table(position, _option_tables()[kind])
        elif lead == "refused":
            self.fail(f"a {name} with {field.name}, which is not supported")
        else:
            self.table(position, lead)

    def vector(self, position, size):
        """Where the elements of a vector begin, and how many there are."""
        start = position + self.number("I", position)
        count = self.number("I", start)
        first = start + 4
        if first + count * size > len(self.content):
            self.fail(f"{count} elements at byte {first}, which lead out of the file")
        if start % 4 or first % size:
            self.fail(f"a vector at byte {start} that is not aligned")
        self.count(count * size)
        return first, count


@functools.cache
def _option_tables():
    """{number: table's name} of operators' options."""
    kinds = vars(schema().BuiltinOptions).items()
    return {number: name for name, number in kinds if isinstance(number, int) and number}


@functools.cache
def _fields(table):
    """{slot: `_Field`} of a table, by the code that LiteRT generates from its schema.

    It has a function for each field that writes it: given what notes the call, they tell slots and
    sizes.
    """
    generated, found = schema(), {}
    for name, write in _writers()[table]:
        call, slot = _called(write)
        bits = _SCALAR.fullmatch(call)
        if bits:
            found[slot] = _Field(name, int(bits[1] or 8) // 8, None)
            continue
        lead = _LEADS.get(table, {}).get(name)
        begin = getattr(generated, f"{table}Start{name}Vector", None)
        if lead is None and begin and hasattr(getattr(generated, table), f"{name}AsNumpy"):
            lead = _called(begin)[1]
        found[slot] = _Field(name, 4, lead or "refused")
    return found


@functools.cache
def _writers():
    """{table: [(field, function that writes it)]}."""
    found = collections.defaultdict(list)
    for name, value in vars(schema()).items():
        match = _WRITER.fullmatch(name)
        if match and isinstance(getattr(schema(), match["table"], None), type):
            found[match["table"]].append((match["field"], value))
    return found


def _called(write):
    """Name and first argument of what a function of the generated code calls of its builder."""

    class Builder:
        def __getattr__(self, name):
            return lambda *arguments: calls.append((name, arguments[0]))

    calls = []
    write(Builder(), 0)
    return calls[0]
