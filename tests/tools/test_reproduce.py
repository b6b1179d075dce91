import pytest


@pytest.mark.parametrize("rates", ["1e-3", "1/0:1e-3"])
def test_learning_rates_of_no_width(rates, run_tool, tmp_path):
    flags = ("--data_dir=300w", f"--output_dir={tmp_path / 'out'}", f"--learning_rates={rates}")
    done = run_tool("tools/reproduce.py", *flags, check=False)
    assert done.returncode == 1
    assert "--learning_rates must be WIDTH:RATE, as 1:1e-3,1/2:2e-3" in done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.iterdir())
