"""The job files of the guide: SLURM's by running it, Kubernetes's against its schemas."""

import csv
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from keras_lapkl._support.app import UNFINISHED
from keras_lapkl.data import datasets
from keras_lapkl.data.synthetic.faces import synthetic_faces
from keras_lapkl.loading import load_model
from keras_lapkl.training import cluster
from keras_lapkl.training.recipe import Recipe
from keras_lapkl.training.run import train

ROOT = pathlib.Path(__file__).resolve().parents[1]
JOBS = ROOT / "docs" / "guides" / "jobs"
SBATCH = JOBS / "train.sbatch"

FACES = JOBS / "faces.sbatch"

SRUN = """#!/usr/bin/env bash
# Two tasks on this machine, as `srun` starts them, and the highest of their exit statuses.
shift
export SLURM_STEP_ID=0 SLURM_NTASKS=2 SLURM_STEP_NUM_TASKS=2
export SLURM_STEP_NODELIST=localhost SLURM_STEP_TASKS_PER_NODE=2 SLURMD_NODENAME=localhost
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task "$@" &
  echo $! >"$RUN.task$task"
  tasks[task]=$!
done
worst=0
for task in 0 1; do
  wait "${tasks[task]}"
  status=$?
  [ $status -gt $worst ] && worst=$status
done
exit $worst
"""
SCONTROL = '#!/usr/bin/env bash\necho "$@" >>"$RUN.scontrol"\n'
# Equal to the last bit are runs of one thread each: several may add in another order.
ONE_THREAD = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
FLAGS = ("--width=1/16", "--num_synthetic=24", "--image_size=32", "--epochs=2")


@pytest.fixture
def submit(tmp_path):
    """Starts the body of the sbatch file, with `lapkl` a script of some text."""

    def start(lapkl, run="run"):
        for name, text in (("srun", SRUN), ("scontrol", SCONTROL), ("lapkl", lapkl)):
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o755)
        env = {
            **{name: value for name, value in os.environ.items() if name != "TF_CONFIG"},
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "RUN": str(tmp_path / run),
            "SLURM_JOB_ID": "4242",
            **ONE_THREAD,
        }
        return subprocess.Popen(
            ["bash", SBATCH], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    return start


class TestSLURM:
    def test_its_options(self):
        subprocess.run(["bash", "-n", SBATCH], check=True)
        options = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", SBATCH.read_text(), re.M)
        assert {"nodes", "ntasks-per-node", "time", "requeue", "open-mode", "signal"} <= {
            name for name, _ in options
        }
        assert dict(options)["signal"] == "TERM@120", "to the tasks, and not to the script (B:)"

    @pytest.mark.parametrize("status", [0, 1, 75, 143])
    def test_is_requeued_after_a_checkpoint_alone(self, submit, tmp_path, status):
        lapkl = f"#!/bin/bash\nexit $((SLURM_PROCID == 1 ? {status} : 0))\n"
        with submit(lapkl) as job:
            job.communicate(timeout=60)
        assert job.returncode == status
        asked = tmp_path / "run.scontrol"
        assert asked.exists() == (status == 75)
        assert status != 75 or asked.read_text() == "requeue 4242\n"

    @pytest.mark.slow
    def test_one_task_is_told_to_end_and_the_job_goes_on(self, submit, launched, tmp_path):
        """To the very weights of the unbroken run."""
        unbroken, _ = launched
        lapkl = " ".join(["exec", sys.executable, f"{ROOT}/tools/train.py", *FLAGS])
        lapkl = f'#!/bin/bash\n{lapkl} --output_dir="$RUN" --steps_per_epoch=12\n'
        run = tmp_path / "run"
        with submit(lapkl) as job:
            until = time.monotonic() + 600
            while not (run / "last.keras").exists():
                assert job.poll() is None and time.monotonic() < until
                time.sleep(0.01)
            os.kill(int(pathlib.Path(f"{run}.task1").read_text()), signal.SIGTERM)
            said, _ = job.communicate(timeout=600)
        assert job.returncode == 75, said
        assert "Process 1 of 2, by SLURM's step 0: localhost:" in said
        assert "Stopped by SIGTERM after epoch 1 and " in said and "Traceback" not in said
        assert pathlib.Path(f"{run}.scontrol").read_text() == "requeue 4242\n"
        assert not list(run.glob(".lapkl*"))
        with submit(lapkl) as job:
            said, _ = job.communicate(timeout=600)
        assert job.returncode == 0, said
        assert "Resuming after epoch 1 and " in said
        models = [load_model(folder / "model.keras") for folder in (unbroken, run)]
        for a, b in zip(*(model.get_weights() for model in models), strict=True):
            np.testing.assert_array_equal(a, b)
        histories = [csv.DictReader((f / "history.csv").open()) for f in (unbroken, run)]
        for ours, theirs in zip(*histories, strict=True):
            for name in ours:
                assert float(ours[name]) == pytest.approx(float(theirs[name]), rel=1e-6), name
        assert sorted(p.name for p in run.iterdir()) == sorted(p.name for p in unbroken.iterdir())


class TestFacesOnSLURM:
    def test_its_options(self):
        subprocess.run(["bash", "-n", FACES], check=True)
        found = re.findall(r"^#SBATCH --([a-z-]+)(?:=(\S+))?$", FACES.read_text(), re.M)
        assert len(found) == FACES.read_text().count("#SBATCH") and dict(found)["requeue"] == ""
        assert dict(found)["cpus-per-task"] == "1", "as --nthreads"

    def test_it_crops_and_leaves_nothing_running(self, dask_cluster, tmp_path):
        """Its body, with an `srun` that starts two workers on this machine."""
        (tmp_path / "photos").mkdir()
        for i, face in enumerate(synthetic_faces(3, image_size=64)[0]):
            cv2.imwrite(str(tmp_path / "photos" / f"{i}.png"), face[..., ::-1])
        python = f"exec {sys.executable}"
        scripts = {
            "srun": '"$@" & "$@" & trap "kill $(jobs -p | xargs)" TERM; wait; wait',
            "dask": f'{python} -m distributed.cli.dask_$1 "${{@:2}}" --no-dashboard',
            "lapkl": f'{python} {ROOT}/tools/$1.py "${{@:2}}"',
        }
        for name, text in scripts.items():
            (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{text}\n")
            (tmp_path / name).chmod(0o755)
        env = {
            **os.environ,
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "SLURM_JOB_ID": "4242",
            "TMPDIR": str(tmp_path),
            **{name.upper(): str(tmp_path / name) for name in ("photos", "faces")},
        }
        with (tmp_path / "said").open("w+") as said:
            job = subprocess.Popen(["bash", FACES], env=env, stdout=said, stderr=said)
            status = job.wait(timeout=300)
        assert status == 0, (tmp_path / "said").read_text()
        assert json.loads((tmp_path / "faces" / "shards.json").read_text())["settings"]
        assert not list(tmp_path.glob("*.json"))
        until = time.monotonic() + 60
        while any(str(tmp_path) in " ".join(words) for words in dask_cluster.command_lines()):
            assert time.monotonic() < until
            time.sleep(0.1)


@pytest.fixture(scope="module")
def launched(run_tool, tmp_path_factory):
    """A run of two processes by `lapkl launch`, and what it said."""
    folder = tmp_path_factory.mktemp("launched") / "run"
    launch = ["tools/launch.py", "--processes=2", "tools/train.py", *FLAGS]
    flags = "--steps_per_epoch=12", f"--output_dir={folder}"
    return folder, run_tool(*launch, *flags, timeout=600, env={**os.environ, **ONE_THREAD})


def test_launched_processes_train_as_one(launched, tmp_path):
    """A whole run; Adam's weights differ by more than SGD's, the errors hardly."""
    folder, done = launched
    assert done.stderr.count("Train on 24 synthetic faces.") == 1 and "NME %" in done.stdout
    assert "Process 1 of 2, by TF_CONFIG: 127.0.0.1:" in done.stderr
    recipe = Recipe(
        width=1 / 16,
        epochs=2,
        steps_per_epoch=12,
        learning_rate=3e-3,
        schedule="cosine",
        dropout=0,
        augment=True,
    )
    crops = datasets.load("synthetic", split="train", num_synthetic=24, image_size=32)
    validation = datasets.load("synthetic", split="validation", image_size=32)
    one = train(recipe, crops, validation, tmp_path / "one")
    left = [{path.name for path in each.iterdir()} for each in (tmp_path / "one", folder)]
    assert left[0] == left[1]
    two = json.loads((folder / "results.json").read_text())
    for name in ("nme", "spread"):
        assert two["validation"][name] == pytest.approx(one["validation"][name], rel=1e-3)


def _sources(*names):
    """The text of modules of commands."""
    commands = ROOT / "keras_lapkl" / "commands"
    return "".join((commands / f"{name}.py").read_text() for name in names)


class TestKubernetes:
    @pytest.fixture
    def documents(self):
        yaml = pytest.importorskip("yaml", reason="needs: pip install 'keras_lapkl[labels]'")

        def read(name):
            return {each["kind"]: each for each in yaml.safe_load_all((JOBS / name).read_text())}

        return read

    @pytest.mark.parametrize("name", ["train-job.yaml", "train-tfjob.yaml", "faces.yaml"])
    @pytest.mark.parametrize("version", ["1.31", "1.37"])
    def test_schemas_of_kubernetes(self, name, version):
        yaml = pytest.importorskip("yaml", reason="needs: pip install 'keras_lapkl[labels]'")
        validator = pytest.importorskip("kubernetes_validate", reason="needs: pip install it")
        documents = list(yaml.safe_load_all((JOBS / name).read_text()))
        spec = documents[-1]["spec"]
        if name == "train-tfjob.yaml":  # of which Kubernetes knows the pods alone
            spec = spec["tfReplicaSpecs"]["Worker"]
            about = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "faces"}}
            documents = [{**about, **spec["template"]}]
        for document in documents:
            validator.validate(document, version, strict=True)
        spec["template"]["spec"]["containers"][0]["comand"] = []
        with pytest.raises(validator.ValidationError, match="comand"):
            validator.validate(documents[-1], version, strict=True)

    def test_the_parts_of_a_cluster_fit(self, documents):
        """Kinds are there twice: all of them by name."""
        yaml = pytest.importorskip("yaml")
        found = {
            (each["kind"], each["metadata"]["name"]): each["spec"]
            for each in yaml.safe_load_all((JOBS / "faces.yaml").read_text())
        }
        scheduler = found["Deployment", "dask-scheduler"]["template"]
        assert found["Service", "dask"]["selector"] == scheduler["metadata"]["labels"]
        (port,) = found["Service", "dask"]["ports"]
        address = f"tcp://dask:{port['port']}"
        worker = found["Deployment", "dask-worker"]["template"]["spec"]["containers"][0]
        crop = found["Job", "faces"]["template"]["spec"]["containers"][0]
        assert address in worker["command"] and f"--scheduler={address}" in crop["command"]
        assert worker["volumeMounts"][0]["mountPath"] == crop["volumeMounts"][0]["mountPath"]

    @pytest.mark.parametrize("name", ["faces.sbatch", "faces.yaml"])
    def test_the_flags_of_crop(self, name):
        defined = _sources("crop", "shared_flags")
        given = set(
            re.findall(r"--([a-z]+_[a-z]+|model|scheduler|resume)\b", (JOBS / name).read_text())
        )
        assert {"input_dir", "output_dir", "crop_by", "model", "scheduler", "resume"} == given
        assert all(f'"{flag}"' in defined for flag in given)

    def test_each_pod_of_the_job_finds_all(self, documents):
        service, job = (documents("train-job.yaml")[kind] for kind in ("Service", "Job"))
        spec, pod = job["spec"], job["spec"]["template"]["spec"]
        assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
        assert pod["subdomain"] == service["metadata"]["name"] and pod["restartPolicy"] == "Never"
        index, tf_config = pod["containers"][0]["env"]
        for rank in range(spec["completions"]):
            text = tf_config["value"].replace(f"$({index['name']})", str(rank))
            found = cluster.from_tf_config(text)
            assert found.index == rank and len(found.addresses) == spec["parallelism"]
            host = f"{job['metadata']['name']}-{rank}.{pod['subdomain']}"
            assert found.addresses[rank].startswith(f"{host}:")
        codes = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]
        assert codes["values"] == [UNFINISHED]
        assert codes["containerName"] == pod["containers"][0]["name"]

    def test_the_operator_sets_tf_config_in_a_container_of_its_name(self, documents):
        job = documents("train-tfjob.yaml")["TFJob"]
        assert job["apiVersion"] == "kubeflow.org/v1"
        assert job["spec"].keys() == {"runPolicy", "tfReplicaSpecs"}
        assert job["spec"]["runPolicy"] == {"cleanPodPolicy": "Running", "backoffLimit": 100}
        workers = job["spec"]["tfReplicaSpecs"]["Worker"]
        (container,) = workers["template"]["spec"]["containers"]
        assert container["name"] == "tensorflow"
        assert container["ports"] == [{"name": "tfjob-port", "containerPort": 2222}]
        assert workers["restartPolicy"] == "OnFailure" and workers["replicas"] > 1

    @pytest.mark.parametrize("name", ["train.sbatch", "train-job.yaml", "train-tfjob.yaml"])
    def test_its_flags_are_those_of_the_command(self, name):
        defined = _sources("train", "data_flags")
        text = re.sub(r"^ *#.*$|^srun \S+", "", (JOBS / name).read_text(), flags=re.M)
        given = set(re.findall(r"--([a-z_]+)=", text))
        assert {"recipe", "data_dir", "output_dir"} == given
        assert all(f'"{flag}"' in defined for flag in given - {"recipe"})
