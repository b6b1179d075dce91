"""The harness itself: it must see a crash, a hang and a wrong error, and go on after each."""

import harness

MODULE = """
import ctypes, time, harness

def attempt(rng, folder):
    kind = rng.choice(("read", "refused", "crash", "hang", "traceback"))
    if kind == "refused":
        raise ValueError("no")
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "hang":
        time.sleep(60)
    if kind == "traceback":
        raise KeyError("yes")

ATTACKS = [harness.Attack("all kinds", attempt, tries=14, limit_s=1.0)]
"""


def test_sees_crashes_hangs_and_wrong_errors(tmp_path, monkeypatch):
    monkeypatch.setattr(harness, "MOST_FAULTS", 100)
    path = tmp_path / "attacks.py"
    path.write_text(MODULE)
    (attack,) = harness.load(path).ATTACKS
    figures = harness.run(path, attack)
    assert (figures.tries, figures.read + figures.refused) == (14, 14 - len(figures.faults))
    assert min(figures.crashes, figures.hangs, figures.tracebacks) >= 1
    said = "\n".join(figures.faults)
    assert "SIGSEGV" in said and "took more than 1.0 s" in said and "KeyError: 'yes'" in said


def test_a_try_is_a_function_of_its_number(tmp_path):
    first, second = (
        [harness.mutated(harness.random.Random(f"x/{n}"), b"0123456789" * 9) for n in range(20)]
        for _ in range(2)
    )
    assert first == second and len(set(first)) == 20
