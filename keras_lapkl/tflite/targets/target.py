"""What a target is: the operators that it runs, the rules for each, and where they are from."""

import dataclasses
from collections.abc import Mapping

from keras_lapkl.tflite.targets.nodes import Node
from keras_lapkl.tflite.targets.rules import Rule


@dataclasses.dataclass(frozen=True)
class Target:
    """A runtime, delegate or compiler that runs some operators.

    Attributes:
        title: its name for people.
        operators: the rules of each operator that it runs, by TFLite's name.
        always: rules for all of them.
        source: what the list was read from: repository or page, and version or commit.
        dated: the date of that source, such as `"2026-08-21"`.
        else_where: what becomes of an operator that it does not run.
        note: what the list does not tell.
        reads_float16: whether it takes float16 constants for weights, so that the DEQUANTIZE that
            converters put behind them is not run.
        most_parts: a delegate cuts its operators out of the graph in parts; how many it takes,
            the largest first, 0 for all. None where it is no delegate.
        least_part: the fewest operators of a part that it takes.
        first_part: whether only what reads nothing of an operator that does not run is taken.
    """

    title: str
    operators: Mapping[str, tuple[Rule, ...]]
    source: str
    dated: str
    else_where: str = "runs on the CPU"
    always: tuple[Rule, ...] = ()
    note: str = ""
    reads_float16: bool = False
    most_parts: int | None = None
    least_part: int = 1
    first_part: bool = False

    def reason(self, node: Node) -> str | None:
        """Why a node does not run here by itself; None if it does."""
        rules = self.operators.get(node.name)
        if rules is None:
            return "not on the list"
        try:
            return next(filter(None, (rule(node) for rule in (*self.always, *rules))), None)
        except (IndexError, TypeError, ValueError):  # of fewer inputs than its kind has
            return "inputs or options that do not fit its kind"


def table(*rows: tuple[str, tuple[Rule, ...]]) -> dict[str, tuple[Rule, ...]]:
    """Rules by operator, from rows of names, with spaces between, and their rules."""
    return {name: rules for names, rules in rows for name in names.split()}
