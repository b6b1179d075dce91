"""The attacks of each module become tests; at the end a table says what came of them."""

import dataclasses
import os

import harness
import pytest

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 0) or None
COLUMNS = ("tries", "read", "refused", "crashes", "hangs", "tracebacks", "slowest_s")


def pytest_generate_tests(metafunc):
    if "attack" in metafunc.fixturenames:
        metafunc.parametrize("attack", metafunc.module.ATTACKS, ids=lambda attack: attack.name)


@pytest.fixture
def figures(attack, request, record_property):
    """`harness.Figures` of an attack."""
    found = harness.run(request.path, attack, SECONDS)
    record_property("figures", dataclasses.asdict(found))
    return found


def pytest_terminal_summary(terminalreporter):
    if SECONDS is None:
        return
    reports = [each for kind in ("passed", "failed") for each in terminalreporter.getreports(kind)]
    rows = [dict(report.user_properties)["figures"] for report in reports if report.user_properties]
    if not rows:
        return
    rows.sort(key=lambda row: row["name"])
    total = {column: sum(row[column] for row in rows) for column in COLUMNS}
    total |= {"name": "all", "slowest_s": max(row["slowest_s"] for row in rows)}
    terminalreporter.section("attacks")
    widths = [max(len(row["name"]) for row in rows), *(max(9, len(each)) for each in COLUMNS)]
    for row in ({each: each for each in ("name", *COLUMNS)}, *rows, total):
        name, *cells = (_cell(row[column]) for column in ("name", *COLUMNS))
        line = [name.ljust(widths[0])]
        line += [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        terminalreporter.write_line("  ".join(line))


def _cell(value):
    return f"{value:.2f}" if isinstance(value, float) else str(value)
