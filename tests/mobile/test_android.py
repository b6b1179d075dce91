import json
import os
import shutil
import stat

import pytest

from keras_lapkl import pretrained

SCRIPT = "mobile/android.py"
MODEL = pretrained.path("fpn-sixteenth-300w", "-int8.tflite")

# Keeps the device's files under $DEVICE and runs its commands here.
ADB = """#!/bin/sh
echo "$@" >>"$DEVICE/calls"
[ "$1" != -s ] || shift 2
case $1 in
get-state) [ ! -e "$DEVICE/lost" ] || { cat "$DEVICE/lost" >&2; exit 1; }; echo device ;;
push) cp "$2" "$DEVICE$3" ;;
pull) cp "$DEVICE$2" "$3" ;;
shell) sh -c "$(echo "$2" | sed "s#/data/local/tmp#$DEVICE/data/local/tmp#g")" ;;
esac
"""

# As the interpreter's benchmark_model writes it, by its source and documentation.
BENCHMARK_MODEL = """#!/bin/sh
echo "$@" >>"$DEVICE/arguments"
echo 'INFO: STARTING!'
echo 'INFO: count=20 first=3900 curr=2100 min=2050 max=3900 avg=2300.5 std=400 p5=2 median=7 p95=9'
echo
echo 'INFO: count=200 first=2100 curr=2000 min=1900 max=2600 avg=2050.25 std=99 p5=1950 median=2040 p95=2300'
echo
echo 'INFO: Inference timings in us: Init: 5685, First inference: 3900, Warmup (avg): 2300.5, Inference (avg): 2050.25' >&2
"""  # noqa: E501


def executable(path, text):
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def device(tmp_path):
    (tmp_path / "device/data/local/tmp").mkdir(parents=True)
    return tmp_path / "device"


@pytest.fixture
def run(run_tool, tmp_path, device):
    """Runs the script on a model, with a fake adb on PATH."""
    (tmp_path / "bin").mkdir()
    executable(tmp_path / "bin/adb", ADB)
    shutil.copy(MODEL, tmp_path / "m.tflite")
    executable(tmp_path / "benchmark_model", BENCHMARK_MODEL)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"

    def run(*flags, path=path):
        environment = {**os.environ, "PATH": path, "DEVICE": str(device)}
        given = ("--binary=benchmark_model", "--model=m.tflite", *flags)
        return run_tool(SCRIPT, *given, check=False, cwd=tmp_path, env=environment)

    return run


def test_measures(run, device, tmp_path):
    done = run("--threads=1,4", "--runs=200", "--affinity=1", "--output=phone.json")
    assert done.returncode == 0, done.stderr
    assert [line.split()[2] for line in done.stdout.splitlines()] == ["threads", "1", "4"]
    found = json.loads((tmp_path / "phone.json").read_text())
    result = found["results"][1]
    assert "STARTING!" in result.pop("log")
    assert result == {
        "model": "m.tflite",
        "bytes": MODEL.stat().st_size,
        "threads": 4,
        "warmup": 20,
        "runs": 200,
        "init_ms": 5.685,
        "first_ms": 3.9,
        "warmup_mean_ms": 2.3005,
        "mean_ms": 2.05025,
        "min_ms": 1.9,
        "max_ms": 2.6,
        "median_ms": 2.04,
        "p95_ms": 2.3,
    }
    assert found["provenance"]["flags"]["affinity"] == "1"
    graph = f"--graph={device}/data/local/tmp/keras_lapkl/model.tflite"
    rest = "--num_runs=200 --warmup_runs=20 --min_secs=0 --warmup_min_secs=0"
    assert (device / "arguments").read_text().splitlines() == [
        f"{graph} --num_threads={threads} {rest}" for threads in (1, 4)
    ]
    assert "taskset 1 /data/local/tmp" in (device / "calls").read_text()
    assert not any((device / "data/local/tmp").iterdir())


def test_serial(run, device):
    assert run("--serial=emulator-5554").returncode == 0
    assert all(c.startswith("-s emulator-5554 ") for c in (device / "calls").open())


def test_over_budget(run):
    done = run("--budget_ms=2")
    assert done.returncode == 1
    assert "m.tflite, 1 threads: mean 2.050 ms, over the budget of 2 ms." in done.stderr
    assert run("--budget_ms=3").returncode == 0


def test_a_binary_without_percentiles(run, tmp_path):
    text = "\n".join(line for line in BENCHMARK_MODEL.splitlines() if "count=" not in line)
    executable(tmp_path / "benchmark_model", text)
    done = run("--output=phone.json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((tmp_path / "phone.json").read_text())["results"]
    assert (result["mean_ms"], result["median_ms"], result["runs"]) == (2.05025, None, None)


def test_no_adb(run):
    done = run(path="/nowhere")
    assert done.returncode == 1
    assert "error: adb is not on PATH" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "said",
    [
        "error: no devices/emulators found",
        "error: device unauthorized.",
        "error: more than one device/emulator",
    ],
)
def test_no_device(said, run, device):
    (device / "lost").write_text(f"* daemon started successfully\n{said}\n")
    done = run()
    assert done.returncode == 1
    assert f"adb has no device to use: {said.rstrip('.')}. Connect one" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--binary=none",), "There is no benchmark_model at none. LiteRT's documentation has it"),
        (("--model=none.tflite",), "There is no model at none.tflite"),
        (("--threads=0",), "whole numbers from 1 on"),
        (("--affinity=0x; reboot",), "hexadecimal"),
    ],
)
def test_plain_errors(flags, message, run):
    done = run(*flags)
    assert done.returncode == 1
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_binary_for_another_processor(run, device, tmp_path):
    executable(tmp_path / "benchmark_model", "#!/bin/sh\necho not executable: 32-bit ELF file\n")
    done = run()
    assert done.returncode == 1
    assert "benchmark_model gave no timings of m.tflite on the device" in done.stderr
    assert "It said: not executable: 32-bit ELF file" in done.stderr
    assert not any((device / "data/local/tmp").iterdir())


def test_a_failing_adb(run, tmp_path):
    executable(tmp_path / "bin/adb", ADB.replace("push)", "push) echo 'no space' >&2; exit 1;"))
    done = run()
    assert done.returncode == 1
    assert "error: adb push benchmark_model" in done.stderr and "no space" in done.stderr
