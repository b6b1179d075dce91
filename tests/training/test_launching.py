import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from keras_lapkl.training import launching

LAUNCH = pathlib.Path(__file__).resolve().parents[2] / "tools" / "launch.py"


def python(code):
    """A command whose code knows its `index`."""
    start = "import json, os, pathlib, sys, time; "
    return [
        sys.executable,
        "-c",
        f"{start}index = json.loads(os.environ['TF_CONFIG'])['task']['index']; {code}",
    ]


def launch(code, count=2):
    return launching.launch(python(code), count)


@pytest.mark.slow
def test_each_process_knows_all_and_itself(tmp_path):
    code = f"pathlib.Path({str(tmp_path)!r}, str(index)).write_text(os.environ['TF_CONFIG'])"
    assert launch(code, 3) == 0
    told = [json.loads((tmp_path / str(i)).read_text()) for i in range(3)]
    assert [each["task"]["index"] for each in told] == [0, 1, 2]
    addresses = told[0]["cluster"]["worker"]
    assert len(set(addresses)) == 3 and all(a.startswith("127.0.0.1:") for a in addresses)
    assert all(each["cluster"] == told[0]["cluster"] for each in told)


@pytest.mark.slow
def test_only_the_first_is_heard(capfd):
    assert launch("print('said by', index); print('wrote', index, file=sys.stderr)") == 0
    assert capfd.readouterr() == ("said by 0\n", "wrote 0\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("end", "status", "how"),
    [
        ("sys.exit(3)", 3, "exit status 3"),
        ("raise ValueError('bad')", 1, "ValueError: bad"),
        ("os.kill(os.getpid(), 9)", 137, "signal 9"),
    ],
)
def test_one_that_fails_ends_all_and_is_shown(capfd, tmp_path, end, status, how):
    ended = f"pathlib.Path({str(tmp_path)!r}, 'ended').touch()"
    code = f"print('here', index, flush=True)\nif index: {end}\ntime.sleep(60); {ended}"
    start = time.monotonic()
    assert launch(code) == status
    assert time.monotonic() - start < 30 and not (tmp_path / "ended").exists()
    output, error = capfd.readouterr()
    assert output == "here 0\n" and "here 1" in error
    assert how in error and "process 1 ended" in error


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ends", "status"), [((75, 75), 75), ((0, 75), 75), ((75, 0), 75), ((75, 1), 75)]
)
def test_all_have_time_to_keep_what_they_have(capfd, ends, status):
    """One was told to end, by a scheduler, and the other ends after it."""
    code = f"time.sleep(0.5 * index); print('ended', index); sys.exit({ends}[index])"
    assert launch(code) == status
    assert "error" not in capfd.readouterr().err


def alive(pid):
    try:
        state = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc, and Linux to end the processes")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_launcher(tmp_path, how):
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, time\n"
        f"path = pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid')\n"
        "path.touch()\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(LAUNCH), "--processes=2", str(script)]
    # In a session of its own, so that Ctrl-C reaches the processes and not this test.
    with subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True) as launcher:
        until = time.monotonic() + 60
        while len(pids := [int(path.stem) for path in tmp_path.glob("*.pid")]) < 2:
            assert time.monotonic() < until and launcher.poll() is None
            time.sleep(0.02)
        if how == signal.SIGINT:
            os.killpg(launcher.pid, how)
        else:
            launcher.send_signal(how)
        launcher.communicate(timeout=60)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert launcher.returncode == expected[how]
    while any(map(alive, pids)):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize(("end", "status"), [(75, 75), (0, 0), (1, 143)])
def test_sigterm_is_passed_on(tmp_path, end, status):
    """The processes keep what they have, in their own time."""
    script = tmp_path / "script.py"
    script.write_text(
        "import os, pathlib, signal, sys, time\n"
        f"signal.signal(signal.SIGTERM, lambda *_: (time.sleep(0.5), sys.exit({end})))\n"
        f"pathlib.Path({str(tmp_path)!r}, f'{{os.getpid()}}.pid').touch()\n"
        "time.sleep(60)\n"
    )
    command = [sys.executable, str(LAUNCH), "--processes=2", str(script)]
    with subprocess.Popen(command) as launcher:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("*.pid"))) < 2:
            assert time.monotonic() < until and launcher.poll() is None
            time.sleep(0.02)
        launcher.terminate()
        assert launcher.wait(timeout=60) == status
