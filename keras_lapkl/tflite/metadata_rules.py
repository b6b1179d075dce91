"""Checks what a .tflite file says of its model by one table of rules, `metadata.rules.json`.

The stand-alone `localize.py` has the same functions, and the page's `rules.js` does the same in a
browser. NumPy and this package stay out of them.
"""

import functools
import json
import math
import pathlib
import re

PATH = pathlib.Path(__file__).with_name("metadata.rules.json")


@functools.cache
def rules():
    """The table."""
    return json.loads(PATH.read_text(encoding="utf-8"))


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
