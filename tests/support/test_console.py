import ast
import contextlib
import io
import logging
import os
import pathlib
import sys
import threading

import pytest

from keras_lapkl._support import console


def test_aligned():
    assert console.aligned([("a", "bb"), ("ccc", "d")]) == "  a  bb\nccc   d"


HOSTILE = "a\x00\x07\x1b]0;owned\r\x7f\x9b31mä\tb\n"
SHOWN = "a\\x00\\x07\\x1b]0;owned\\x0d\\x7f\\x9b31mä\tb\n"


def test_no_terminal_obeys_a_name(capsys):
    console.print(HOSTILE, pathlib.Path(HOSTILE), end="")
    console.print(HOSTILE, end="", file=sys.stderr)
    assert capsys.readouterr() == (f"{SHOWN} {SHOWN}", SHOWN)
    record = logging.LogRecord("", logging.INFO, "", 0, "Left out %s", (HOSTILE,), None)
    assert console.PrintableFormatter().format(record) == f"Left out {SHOWN}"


def test_the_package_prints_only_so():
    """But for the code that it hands to other Pythons."""
    root = pathlib.Path(console.__file__).parent.parent
    for path in root.rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = any(isinstance(node, ast.Call) and _named(node.func) for node in ast.walk(tree))
        imported = any(
            isinstance(node, ast.ImportFrom)
            and node.module == "keras_lapkl._support.console"
            and any(alias.name == "print" for alias in node.names)
            for node in tree.body
        )
        assert imported or not calls or path.name == "console.py", path


def _named(function):
    return isinstance(function, ast.Name) and function.id == "print"


def test_shows_what_was_held_back_only_on_an_error(capfd):
    with console.held_stderr():
        os.write(2, b"chatter")
    assert "chatter" not in capfd.readouterr().err
    with pytest.raises(RuntimeError), console.held_stderr():
        os.write(2, b"the cause")
        raise RuntimeError
    assert "the cause" in capfd.readouterr().err


def test_what_was_held_back_is_read_and_shown_where_that_is_asked_for(capfd):
    with console.held_stderr(shown=True) as written:
        os.write(2, b"of another thread\n")
        assert written() == b"of another thread\n"
        os.write(2, b"and later\n")
    assert capfd.readouterr().err == "of another thread\nand later\n"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def seconds(monkeypatch):
    """A clock, in seconds, that the test moves."""
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    return clock


def run(seconds, each, count, total=None):
    """Reports results that take a time each."""
    reported = console.reported(range(count), total or count, "made {} of {}")
    for _ in reported:
        seconds[0] += each


def test_terminal_has_one_line_that_moves(seconds, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    run(seconds, 1, 6)
    assert sys.stderr.getvalue() == "\rmade 3 of 6\rmade 5 of 6\rmade 6 of 6\n"


def test_line_fits_its_terminal_and_covers_the_one_before(monkeypatch, seconds):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("COLUMNS", "10")
    meter = console.Meter()
    seconds[0] = 3
    meter.tell(lambda _: 20 * "x")
    meter.end(lambda _: "done")
    assert sys.stderr.getvalue() == f"\r{9 * 'x'}\rdone     \n"


def test_file_has_plain_lines_at_growing_intervals(seconds, capsys):
    run(seconds, 10, 60)
    lines = [f"made {n} of 60" for n in (4, 10, 22, 46, 60)]
    assert capsys.readouterr().err.splitlines() == lines


def test_file_says_once_where_it_ended(seconds, capsys):
    run(seconds, 40, 2)
    assert capsys.readouterr().err == "made 2 of 2\n"


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_short_task_says_nothing(seconds, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream())
    run(seconds, 0.1, 9)
    run(seconds, 9, 0, 5)
    assert sys.stderr.getvalue() == ""


def test_task_that_fails_leaves_a_whole_line(seconds, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError):
        for done in console.reported(range(9), None, "{} of {}"):
            seconds[0] += 3
            if done == 3:
                raise KeyError
    assert sys.stderr.getvalue().endswith("\r4 of ?\n")


def test_nothing_is_held_where_there_is_no_stderr(monkeypatch):
    def closed(descriptor):
        raise OSError

    monkeypatch.setattr(os, "dup", closed)
    with console.held_stderr() as written:
        assert written() == b""


def test_a_file_that_has_the_number_of_stderr_stays(monkeypatch, tmp_path):
    """Of a process that began without stderr, the first file that is opened."""
    monkeypatch.setattr(sys, "stderr", None)
    changed = []
    monkeypatch.setattr(os, "dup2", lambda *numbers: changed.append(numbers))
    with console.held_stderr(shown=True) as written:
        assert written() == b""
    assert not changed


def test_threads_that_hold_back_at_once_leave_stderr_as_it_was(capfd):
    both = threading.Barrier(2, timeout=0.2)

    def hold():
        with console.held_stderr(), contextlib.suppress(threading.BrokenBarrierError):
            both.wait()

    threads = [threading.Thread(target=hold) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.write(2, b"still here")
    assert "still here" in capfd.readouterr().err
