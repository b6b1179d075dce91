import logging
import os
import signal
import subprocess
import sys

import pytest

from keras_lapkl._support.tensorflow import quiet_tensorflow


@pytest.mark.parametrize("quiet", [False, True])
def test_advice_against_retracing_alone_is_dropped(quiet):
    import tensorflow as tf

    said = logging.Handler()
    records = []
    said.emit = records.append
    logger = tf.get_logger()
    filters, logger.filters = logger.filters, []
    if quiet:
        quiet_tensorflow()
    logger.addHandler(said)
    try:

        def twice(x):
            return 2 * x

        for size in range(20):
            tf.function(twice)(tf.zeros(size))
        logger.warning("Something else.")
    finally:
        logger.removeHandler(said)
        logger.filters = filters
    assert any("retracing" in record.msg for record in records) != quiet
    assert records[-1].msg == "Something else."


@pytest.mark.slow
def test_no_terminal_obeys_what_a_command_says():
    code = (
        "from absl import logging\n"
        "from keras_lapkl._support.app import run_main\n"
        "def main(_):\n"
        "    logging.warning('Left out %s', 'a\\x1b[31m.jpg')\n"
        "    raise ValueError('b\\x9b31m.jpg')\n"
        "run_main(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr == "Left out a\\x1b[31m.jpg\nerror: b\\x9b31m.jpg\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "words", "said"),
    [
        ("tensorflow.python.framework.errors_impl", "r/events; No space left on device", True),
        ("tensorflow.python.framework.errors_impl", "no memory", False),
        ("elsewhere", "No space left on device", False),
    ],
)
def test_a_full_disk_by_tensorflow_is_a_line(module, words, said):
    """It writes files itself, and has errors of its own for what happens."""
    code = (
        "from keras_lapkl._support.app import run_main\n"
        f"kind = type('Exhausted', (Exception,), {{'__module__': '{module}'}})\n"
        "def main(_):\n"
        f"    raise kind('Graph execution error:\\n{words}')\n"
        "run_main(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    if said:
        assert done.stderr == f"error: {words}\n"
    else:
        assert "Traceback" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "status", "said"),
    [
        (signal.SIGTERM, 143, "Stopped by SIGTERM. The same command starts or goes on again.\n"),
        (signal.SIGINT, 130, "\nStopped. The same command starts or goes on again.\n"),
    ],
)
def test_signals_end_with_a_sentence_and_a_status_of_their_own(number, status, said):
    code = (
        "import time; from keras_lapkl._support.app import run_main\n"
        "def main(_):\n"
        "    print('begun', flush=True)\n"
        "    time.sleep(60)\n"
        "run_main(main)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "begun\n"
        process.send_signal(number)
        assert process.communicate(timeout=30)[1] == said
    assert process.returncode == status


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
def test_signals_during_garbage_collection_are_not_lost(name, status):
    code = (
        "import gc, os, signal, time; from keras_lapkl._support.app import run_main\n"
        "def main(_):\n"
        "    def collected(phase, info):\n"
        "        gc.callbacks.remove(collected)\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "    gc.callbacks.append(collected)\n"
        "    gc.collect()\n"
        "    print('went on', flush=True)\n"
        "    time.sleep(60)\n"
        "run_main(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == status and done.stdout == "went on\n"
    assert done.stderr.strip().endswith("The same command starts or goes on again.")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130)])
@pytest.mark.parametrize("becomes", ["pass", "raise AttributeError('of compiled code')"])
def test_signals_that_a_library_drops_are_not_lost(name, status, becomes):
    code = (
        "import os, signal, time; from keras_lapkl._support.app import run_main\n"
        "def main(_):\n"
        "    try:\n"
        f"        os.kill(os.getpid(), signal.{name})\n"
        "        time.sleep(60)\n"
        "    except BaseException:\n"
        f"        {becomes}\n"
        "    print('went on', flush=True)\n"
        "    time.sleep(60)\n"
        "run_main(main)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert done.returncode == status
    assert done.stdout == ("went on\n" if becomes == "pass" else "")
    assert done.stderr.strip().endswith("The same command starts or goes on again.")
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr


@pytest.mark.slow
def test_signals_that_are_caught_on_purpose_are_not_sent_again():
    code = (
        "import os, signal, time; from keras_lapkl._support.app import Interrupted, run_main\n"
        "def main(_):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(60)\n"
        "    except Interrupted as stop:\n"
        "        stop.caught.set()\n"
        "    time.sleep(0.5)\n"
        "    return 7\n"
        "run_main(main)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 7


@pytest.mark.slow
def test_a_name_that_is_not_utf8_is_said(tmp_path):
    code = (
        "import os; from keras_lapkl._support.app import run_main\n"
        "run_main(lambda _: print(os.fsdecode(b'\\xff.jpg')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"\\udcff.jpg\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["none.csv", "/none.csv"])
def test_a_file_that_is_not_there_is_said_with_its_place(name, tmp_path):
    code = f"from keras_lapkl._support.app import run_main; run_main(lambda _: open({name!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    here = f" in {tmp_path.resolve()}" if name == "none.csv" else ""
    assert done.returncode == 1
    assert done.stderr == f"error: There is no file or folder {name}{here}.\n"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backend", "package"),
    [("torch", "torch"), ("jax", "'keras_lapkl[jax]'"), ("tensorflow", "'keras_lapkl[train]'")],
)
def test_a_backend_that_is_not_installed_is_said(backend, package):
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(name, *_):\n"
        f"        if name == {backend!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Without)\n"
        "from keras_lapkl._support.app import run_main\n"
        "def main(_):\n"
        "    import keras\n"
        "run_main(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=os.environ | {"KERAS_BACKEND": backend},
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.endswith(
        f"error: KERAS_BACKEND is {backend}, which is not installed: pip install {package}\n"
    )
