import pytest


def test_what_follows_the_script_is_the_scripts(run_tool, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    done = run_tool("tools/launch.py", "--processes=1", script, "--here=x", "y")
    assert done.stdout == "['--here=x', 'y']\n"


def test_one_of_two_machines(run_tool, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import os; open(f'{__file__}.out', 'w').write(os.environ['TF_CONFIG'])")
    run_tool("tools/launch.py", "--addresses=10.0.0.1:22,10.0.0.2:22", "--here=1", script)
    told = (tmp_path / "script.py.out").read_text()
    assert '"10.0.0.1:22", "10.0.0.2:22"' in told and '"index": 1' in told


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "a command and its flags"),
        (["script.py"], "--processes, or"),
        (["--processes=0", "script.py"], "processes"),
        (["--processes=2", "--here=0", "script.py"], "--processes, or"),
        (["--addresses=a:1", "script.py"], "--here"),
        (["--addresses=a:1", "--here=1", "script.py"], "Received: 1"),
        (["--addresses=a:1", "--here=x", "script.py"], "'x'"),
    ],
)
def test_bad_flags_end_in_a_plain_error(run_tool, flags, message):
    done = run_tool("tools/launch.py", *flags, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
