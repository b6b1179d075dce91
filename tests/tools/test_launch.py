import pytest


def test_what_follows_the_script_is_the_scripts(run_tool, tmp_path):
    script = tmp_path / "script.py"
    script.write_text("import sys; print(sys.argv[1:])")
    done = run_tool("tools/launch.py", "--processes=1", script, "--here=x", "y")
    assert done.stdout == "['--here=x', 'y']\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--processes=2"], "train and its flags"),
        (["--processes=2", "predict", "--output_dir=x"], "Received: predict --output_dir=x"),
        (["script.py"], "processes"),
        (["--processes=0", "script.py"], "processes"),
        (["--addresses=a:1", "script.py"], "addresses"),
    ],
)
def test_bad_flags_end_in_a_plain_error(run_tool, flags, message):
    done = run_tool("tools/launch.py", *flags, check=False)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr and "Traceback" not in done.stderr
