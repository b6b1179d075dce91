import json
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = """
import json, sys
sys.path.insert(0, "benchmarks")
import jax, keras, numpy as np
import jax.numpy as jnp
import on_device
from keras_lapkl.schemes import IBUG68
from keras_lapkl.losses import LaplaceKL
from keras_lapkl.models import LandmarkLocalizer, MobileFPN
from keras_lapkl.optimizers import muon
from keras_lapkl.training.schedules import SCHEDULES

random = np.random.default_rng(0)
faces = random.integers(0, 256, (4, 48, 48, 3), np.uint8)
labels = np.concatenate([random.uniform(2, 30, (4, 68, 2)), random.random((4, 68, 1)) < 0.9], -1)
plan = on_device.Plan(width=1 / 16, image_size=32, steps=20, batch_size=4)
state = on_device.first_state(plan, jax.random.key(0))
# Copies: Keras gives the memory of its weights away.
arrays = jax.tree.map(np.array, state)
network = MobileFPN(68, 1 / 16, 32)
for name, own in arrays["weights"].items():
    statistics = arrays["statistics"].get(name)
    layer = network.get_layer(name)
    layer.set_weights([own["kernel"], *([] if statistics else [own["bias"]])])
    if statistics:
        norm = [own["gamma"], own["beta"], statistics["mean"], statistics["variance"]]
        network.get_layer(f"{name}_norm").set_weights(norm)
found = {"layers": {each.name for each in network.layers if hasattr(each, "kernel")}
         == set(state["weights"])}

images = faces[:, 8:40, 8:40] / np.float32(255)
columns, rows, _ = on_device.forward(plan, state["weights"], state["statistics"], images, False)
expected = network(images)
found["apart"] = float(np.abs(columns[:, None] + rows[:, :, None] - expected).max())

# The same steps without augmentation.
still = jnp.broadcast_to(jnp.eye(2), (4, 2, 2)), jnp.zeros((4, 2)), jnp.zeros(4, bool)
on_device.augment = lambda key, faces, index, strength, size: (
    on_device.warp(faces, index, *still[:2], size), still)
model = LandmarkLocalizer(network, IBUG68, 3.0)
model.compile(muon(SCHEDULES["cosine"](2e-2, 20)), LaplaceKL())
data = {"faces": jnp.asarray(faces), "labels": jnp.asarray(labels, "float32")}
flip = jnp.asarray(IBUG68.flip)
step = jax.jit(lambda state, number: on_device.step(
    plan, flip, data, state, number, jnp.arange(4), None, jax.random.key(0)))
found["losses"] = []
for number in range(4):
    theirs = model.train_on_batch(images, labels.astype("float32"))
    state, ours = step(state, number)
    found["losses"].append([float(np.asarray(theirs).ravel()[0]), float(ours)])
print(json.dumps(found))
"""

MOVED = """
import json, sys
sys.path.insert(0, "benchmarks")
import jax, numpy as np
import jax.numpy as jnp
import on_device

# Each face is one bright spot, at its only landmark.
random = np.random.default_rng(0)
places = random.integers(20, 60, (64, 2))
faces = np.zeros((64, 112, 112, 3), np.uint8)
for face, (x, y) in zip(faces, places):
    face[y + 15 : y + 18, x + 15 : x + 18] = 255
index = jnp.arange(64)
affine = on_device.draw_affine(jax.random.key(1), 64, 1.0, 80)
images = on_device.warp(jnp.asarray(faces), index, *affine[:2], 80)
moved, visible = on_device.move_landmarks(
    jnp.asarray(places[:, None], "float32"), jnp.ones((64, 1)), affine, jnp.array([0]), 80)
grid = np.arange(80)
weights = np.asarray(images[..., 0])
total = weights.sum((1, 2))
found = np.stack([(weights.sum(1) * grid).sum(1), (weights.sum(2) * grid).sum(1)], -1)
apart = np.abs(found / total[:, None] - np.asarray(moved[:, 0]))
print(json.dumps({"apart": float(apart.max()), "visible": float(visible.mean()),
                  "mirrored": float(affine[2].mean())}))
"""

pytestmark = pytest.mark.slow


def run(script):
    pytest.importorskip("jax", reason="needs the extra: pip install 'keras_lapkl[jax]'")
    done = subprocess.run(
        [sys.executable, "-c", script],
        # Compiled in less time, to slower code.
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "XLA_FLAGS": "--xla_backend_optimization_level=0",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_is_the_network_and_the_steps_of_keras():
    found = run(SCRIPT)
    assert found["layers"] and found["apart"] < 1e-4
    theirs, ours = np.transpose(found["losses"])
    np.testing.assert_allclose(ours, theirs, rtol=5e-3)
    assert theirs[-1] < theirs[0]


def test_landmarks_move_with_the_faces():
    found = run(MOVED)
    assert found["apart"] < 0.1 and found["visible"] == 1
    assert 0.2 < found["mirrored"] < 0.8


def test_another_backend_is_refused(run_tool, tmp_path):
    done = run_tool(
        "benchmarks/few_labels_on_device.py",
        *("--data_dir=none", "--unlabeled_dir=none", f"--output={tmp_path / 'found.json'}"),
        check=False,
    )
    assert done.returncode == 1 and "Set KERAS_BACKEND=jax" in done.stderr
