"""Which operators of a .tflite file run on a target, which do not, and why."""

import collections
import pathlib
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from keras_lapkl._support import extras
from keras_lapkl._support.console import aligned
from keras_lapkl._support.types import PathLike
from keras_lapkl.tflite import arena, flatbuffer, vela
from keras_lapkl.tflite.targets import TARGETS
from keras_lapkl.tflite.targets.nodes import Node, nodes, unpacks, with_constants
from keras_lapkl.tflite.targets.target import Target

_WIDTH = 96


def check(
    path: PathLike, targets: Iterable[str] = tuple(TARGETS), own_tools: bool = False
) -> dict[str, Any]:
    """What runs where of a .tflite file, by the lists in `targets`.

    The first graph is looked at, as interpreters run it. Nothing is executed but `own_tools`.

    Args:
        path: a .tflite file of any origin.
        targets: names in `TARGETS`.
        own_tools: whether to ask vela of `ethos-u` and TFLite Micro of `micro` too, each in a
            process of its own, where they are installed.

    Returns:
        A dict: `model`; `bytes` of the file; `operators`, their number; and `targets`, for each
        name a dict with `title`, `source`, `dated`, `note`, `else_where`; `runs` and `falls_back`,
        numbers of operators; `parts`, into how many pieces the graph is cut, or None where it
        isn't; and `kinds`, a list of `operator`, `types`, `count`, `runs`, `reason` (None where it
        runs) and `places`, the operators' numbers in the file. With `own_tools` `ethos-u` has
        `vela`, as `vela.report` gives it, and `micro` has `arena`, as `arena.needed` gives it, if
        nothing falls back; neither where its tool is not installed.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not a TFLite file, or a damaged one, or a target is unknown; or vela or
            TFLite Micro refuses it.

    Example:

    >>> check("model.tflite", ["gpu"])["targets"]["gpu"]["falls_back"]
    4
    """
    targets = list(targets)
    unknown = [name for name in targets if name not in TARGETS]
    if unknown:
        raise ValueError(f"Unknown targets: {unknown}. Expected some of {list(TARGETS)}.")
    found = nodes(flatbuffer.read(path))
    entries = {name: of_target(TARGETS[name], found) for name in targets}
    if own_tools and "ethos-u" in entries and extras.installed("ethosu"):
        entries["ethos-u"]["vela"] = vela.report(path)
    # TFLite Micro refuses a file of which anything falls back.
    fits = "micro" in entries and not entries["micro"]["falls_back"]
    if own_tools and fits and extras.installed("tflite_micro"):
        entries["micro"]["arena"] = arena.needed(flatbuffer.read_bytes(path), path)
    return {
        "model": pathlib.Path(path).name,
        "bytes": pathlib.Path(path).stat().st_size,
        "operators": len(found),
        "targets": entries,
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
        "parts": None if target.most_parts is None else len(parts(target, found, why)),
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
        found = with_constants(found)
    free = [target.reads_float16 and unpacks(node) for node in found]
    why = [None if each else target.reason(node) for each, node in zip(free, found, strict=True)]
    if target.first_part:
        _leave_what_follows(found, why)
    if target.most_parts is not None:
        _leave_parts(target, found, why)
    stay = {t.index for n, reason in zip(found, why, strict=True) if reason for t in n.given}
    for i, node in enumerate(found):
        if free[i] and node.outputs[0].index in stay:
            why[i] = "what reads it does not run there"
    return why


def _leave_what_follows(found, why):
    """A compiler stops at the first operators that it can't take, floats to bytes excepted."""
    lost = set()
    for i, node in enumerate(found):
        if why[i] is None and any(tensor.index in lost for tensor in node.given):
            why[i] = "reads what an operator gives that does not run there"
        if why[i] is not None and not _enters(node):
            lost.update(tensor.index for tensor in node.outputs)


def _enters(node):
    """Whether a node turns the image of a program into bytes."""
    return node.name == "QUANTIZE" and node.given[0].of_graph and node.given[0].dtype == "FLOAT32"


def _leave_parts(target, found, why):
    """A delegate takes so many parts, the largest first, and none that is too small."""
    held = sorted(parts(target, found, why), key=len, reverse=True)
    taken = [part for part in held if len(part) >= target.least_part]
    taken = taken[: target.most_parts or None]
    for part in held:
        if part not in taken:
            for i in part:
                why[i] = f"in a part of {len(part)} alone, which the delegate leaves"


def parts(target: Target, found: Sequence[Node], why: Sequence[str | None]) -> list[list[int]]:
    """The parts into which nodes that run are cut, as TFLite takes nodes together.

    It takes all nodes of one kind, that run or that don't, for which what they read is there, then
    all of the other kind, and so on.

    Args:
        target: where they run; float16 that it reads as it is belongs to no part.
        found: the nodes.
        why: for each, why it does not run, or None.

    Returns:
        Lists of places in `found`.
    """
    waiting = [i for i, n in enumerate(found) if not (target.reads_float16 and unpacks(n))]
    made = {tensor.index for i in waiting for tensor in found[i].outputs}
    cut = []
    while waiting:
        part = []
        for i in waiting:
            same = not part or (why[i] is None) == (why[part[0]] is None)
            if same and not any(tensor.index in made for tensor in found[i].given):
                part.append(i)
                made.difference_update(tensor.index for tensor in found[i].outputs)
        waiting = [i for i in waiting if i not in set(part)]
        if why[part[0]] is None:
            cut.append(part)
    return cut


def falls_back(report: dict[str, Any]) -> bool:
    """Whether anything that `check` found falls back, by the lists or by vela."""
    return any(
        entry["falls_back"] or entry.get("vela", {}).get("cpu", 0)
        for entry in report["targets"].values()
    )


def page(report: dict[str, Any]) -> str:
    """What `check` found of a file: a table of the targets, then what falls back on each."""
    entries = report["targets"].items()
    rows = [("target", "runs", "falls back", "parts", "list of")]
    for name, entry in entries:
        cut = "" if entry["parts"] is None else str(entry["parts"])
        rows.append((name, str(entry["runs"]), str(entry["falls_back"]), cut, entry["dated"]))
    lines = [f"{report['model']}: {report['operators']} operators", "", aligned(rows)]
    for name, entry in entries:
        lines += ["", f"{name}: {entry['title']}", *_told(entry)]
    return "\n".join(lines)


def summary(reports: Sequence[dict[str, Any]]) -> str:
    """What `check` found of several files: how many operators fall back, by file and target."""
    names = list(reports[0]["targets"])
    rows = [("falls back of", "operators", *names)]
    for report in reports:
        left = [str(report["targets"][name]["falls_back"]) for name in names]
        rows.append((report["model"], str(report["operators"]), *left))
    return "\n".join([aligned(rows), *_measured(reports)])


def _measured(reports):
    """Lines on what TFLite Micro and vela themselves say of files, a table if they say anything."""
    rows = [("by their own tools", "bytes", "arena", "vela: operators", "on the CPU")]
    for report in reports:
        arena = report["targets"].get("micro", {}).get("arena")
        own = report["targets"].get("ethos-u", {}).get("vela")
        if arena or own:
            rows.append(
                (
                    report["model"],
                    f"{report['bytes']:,}",
                    f"{arena['total']:,}" if arena else "",
                    str(own["cpu"] + own["npu"]) if own else "",
                    str(own["cpu"]) if own else "",
                )
            )
    return ["", aligned(rows)] if len(rows) > 1 else []


def _told(entry):
    """Lines on one target."""
    count = entry["runs"] + entry["falls_back"]
    lines = [f"list: {entry['source']} ({entry['dated']})"]
    lines += [f"note: {entry['note']}"] if entry["note"] else []
    if entry["falls_back"]:
        lines.append(f"{entry['falls_back']} of {count}, each of which {entry['else_where']}:")
    else:
        lines.append(f"all {count} run")
    lines += [
        f"{kind['count']:5} {kind['operator']}, {kind['types']}: {kind['reason']}"
        for kind in entry["kinds"]
        if not kind["runs"]
    ]
    arena = entry.get("arena")
    if arena:
        lines.append(
            f"arena: {arena['total']:,} bytes by tflite-micro {arena['version']}, "
            f"{arena['head']:,} for tensors, {arena['tail']:,} for records on 64 bits"
        )
    own = entry.get("vela")
    if own:
        lines.append(
            f"vela {own['version']} itself, for {own['accelerator']}: {own['cpu']} of "
            f"{own['cpu'] + own['npu']} operators on the CPU, as it takes them apart"
        )
        # In brackets vela names a tensor of the file, another for each operator.
        each = collections.Counter(
            (left["operator"], re.sub(r" \([^()]*\)$", "", left["reason"])) for left in own["left"]
        )
        lines += [f"{n:5} {operator}: {reason}" for (operator, reason), n in each.items()]
    wrapped = []
    for line in lines:
        indent = " " * 8 if line[:1] == " " else "  "
        wrapped += textwrap.wrap(
            line, _WIDTH, initial_indent="  ", subsequent_indent=indent, break_long_words=False
        )
    return wrapped
