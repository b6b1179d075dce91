"""Which operators of a .tflite file run on a target, which do not, and why."""

import collections
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from keras_lapkl._support.console import aligned
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import flatbuffer
from keras_lapkl.tflite.targets import TARGETS
from keras_lapkl.tflite.targets.nodes import Node, nodes, unpacks, with_constants
from keras_lapkl.tflite.targets.target import Target


def check(path: PathLike, targets: Iterable[str] = tuple(TARGETS)) -> dict[str, Any]:
    """What runs where of a .tflite file, by the lists in `targets`.

    The first graph is looked at, as interpreters run it. Nothing is executed.

    Args:
        path: a .tflite file of any origin.
        targets: names in `TARGETS`.

    Returns:
        A dict: `model`; `operators`, their number; and `targets`, for each name a dict with
        `title`, `source`, `dated`, `note`, `else_where`; `runs` and `falls_back`, numbers of
        operators; `parts`, into how many pieces the graph is cut, or None where it isn't; and
        `kinds`, a list of `operator`, `types`, `count`, `runs`, `reason` (None where it runs) and
        `places`, the operators' numbers in the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a TFLite file, or a damaged one, or a target is unknown.

    Example:

    >>> check("model.tflite", ["gpu"])["targets"]["gpu"]["falls_back"]
    4
    """
    unknown = [name for name in targets if name not in TARGETS]
    if unknown:
        raise ValueError(f"Unknown targets: {unknown}. Expected some of {list(TARGETS)}.")
    found = nodes(flatbuffer.read(path))
    return {
        "model": pathlib.Path(path).name,
        "operators": len(found),
        "targets": {name: of_target(TARGETS[name], found) for name in targets},
    }


def of_target(target: Target, found: Sequence[Node]) -> dict[str, Any]:
    """What of some nodes runs on a target: an entry of `check`'s `targets`."""
    why = reasons(target, found)
    return {
        "title": target.title,
        "source": target.source,
        "dated": target.dated,
        "note": target.note,
        "else_where": target.else_where,
        **counted(found, why),
        "parts": parts(found, why) if target.partitions else None,
    }


def counted(found: Sequence[Node], why: Sequence[str | None]) -> dict[str, Any]:
    """`runs`, `falls_back` and `kinds` of nodes and the reason of each against it."""
    kinds = collections.defaultdict(list)
    for node, reason in zip(found, why, strict=True):
        kinds[node.name, node.types, reason].append(node.index)
    return {
        "runs": sum(reason is None for reason in why),
        "falls_back": sum(reason is not None for reason in why),
        "kinds": [
            {
                "operator": name,
                "types": types,
                "count": len(places),
                "runs": reason is None,
                "reason": reason,
                "places": places,
            }
            for (name, types, reason), places in kinds.items()
        ],
    }


def reasons(target: Target, found: Sequence[Node]) -> list[str | None]:
    """For each node, why it does not run on a target; None if it does."""
    if target.reads_float16:
        found = with_constants(list(found))
    why = [None if target.reads_float16 and unpacks(n) else target.reason(n) for n in found]
    if target.reads_float16:
        _with_their_readers(found, why)
    if target.first_part:
        _only_the_first_part(found, why)
    return why


def _with_their_readers(found, why):
    """Constants of float16 are read as they are only if all that read them run there."""
    stay = {t.index for n, reason in zip(found, why, strict=True) if reason for t in n.given}
    for i, node in enumerate(found):
        if unpacks(node) and node.outputs[0].index in stay:
            why[i] = "what reads it does not run there"


def _only_the_first_part(found, why):
    """A compiler stops at the first operator that it can't take, floats to bytes excepted."""
    stopped = None
    for i, node in enumerate(found):
        if stopped is not None and why[i] is None:
            why[i] = "comes after an operator that does not run there"
        elif why[i] is not None and not _enters(node):
            stopped = i


def _enters(node):
    """Whether a node turns the image of a program into bytes."""
    return node.name == "QUANTIZE" and node.given[0].of_graph and node.given[0].dtype == "FLOAT32"


def parts(found: Sequence[Node], why: Sequence[str | None]) -> int:
    """Into how many parts the nodes that run are cut, as TFLite takes nodes together.

    It takes all nodes of one kind, run or left, for which what they read is there; then all of the
    other kind, and so on.
    """
    waiting = list(range(len(found)))
    made = {t.index for node in found for t in node.outputs}
    count, turn = 0, None
    while waiting:
        taken = False
        for i in list(waiting):
            ready = all(t.index not in made for t in found[i].given)
            if ready and turn in (None, why[i] is None):
                turn = why[i] is None
                made -= {t.index for t in found[i].outputs}
                waiting.remove(i)
                taken = True
        if not taken and turn is None:
            raise ValueError("the operators read what nothing writes")  # `flatbuffer` refuses it
        count += turn is True
        turn = None if not taken else (not turn)
    return count


def page(report: dict[str, Any]) -> str:
    """What `check` found, as a table of the targets and lines of what falls back."""
    entries = report["targets"].items()
    rows = [("target", "runs", "falls back", "parts", "list of")]
    for name, entry in entries:
        cut = "" if entry["parts"] is None else str(entry["parts"])
        rows.append((name, str(entry["runs"]), str(entry["falls_back"]), cut, entry["dated"]))
    lines = [f"{report['model']}: {report['operators']} operators", "", aligned(rows)]
    for name, entry in entries:
        lines += ["", f"{name}: {entry['title']}", f"  from {entry['source']}, {entry['dated']}"]
        if entry["note"]:
            lines.append(f"  {entry['note']}")
        left = [kind for kind in entry["kinds"] if not kind["runs"]]
        lines.append(f"  {_told(entry)}")
        lines += [
            f"    {kind['count']:3} {kind['operator']} {kind['types']}: {kind['reason']}"
            for kind in left
        ]
    return "\n".join(lines)


def _told(entry):
    if not entry["falls_back"]:
        return "all run"
    return f"{entry['falls_back']} of {entry['runs'] + entry['falls_back']}: each {entry['else_where']}"
