import pytest


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--learning_rates=1e-3", "--learning_rates must be WIDTH:RATE, as 1:1e-3,1/2:2e-3"),
        ("--learning_rates=1/0:1e-3", "--learning_rates must be WIDTH:RATE, as 1:1e-3,1/2:2e-3"),
        ("--seeds=0,a", "--seeds must be whole numbers. Received: 'a'"),
        ("--num_unlabeled=5000", "--num_unlabeled are faces of --unlabeled_dir: name it"),
        ("--miniature", "--miniature has a plan of its own: drop --data_dir."),
    ],
)
def test_plain_errors(flag, message, run_tool, tmp_path):
    flags = ("--data_dir=300w", f"--output_dir={tmp_path / 'out'}", flag)
    done = run_tool("tools/reproduce.py", *flags, check=False)
    assert done.returncode == 1 and message in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())


@pytest.mark.parametrize(("unlabeled", "cells"), [("", 6), ("labeled", 12)])
def test_without_a_pool(unlabeled, cells, run_tool, tmp_path):
    """Three losses by two seeds, without D or with its control."""
    run_tool(
        "tools/reproduce.py",
        *("--tables=table2", "--budget_minutes=0", f"--num_unlabeled={unlabeled}"),
        *("--epochs=7", f"--output_dir={tmp_path}"),
    )
    report = (tmp_path / "RESULTS.md").read_text()
    assert f"0 of {cells} training runs" in report and "7 epochs" in report
