"""Trains MobileFPNs of many runs at once on one accelerator, by JAX.

A small network leaves an accelerator idle: a step is hundreds of short kernels. Here the networks
of several runs are one, with an axis in front of all weights; the faces are in the device's memory
and are moved and recolored there; hundreds of steps are one call. What is trained is what
`keras_lapkl.training` trains: the same network, loss, optimizer, schedule, augmentation and
targets, with other random numbers. A test holds weights after some steps to Keras's.

`KERAS_BACKEND=jax` must be set before it is imported.
"""

import dataclasses
import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np

from keras_lapkl import heatmaps, losses

LEVELS, DECODER, EXPANSION = (2, 3, 4, 6), 2, 2
EPSILON, BN_MOMENTUM = 1e-3, 0.98
MOMENTUM, ROUNDS, POLYNOMIAL = 0.95, 5, (3.4445, -4.7750, 2.0315)
BETA_1, BETA_2, TINY = 0.9, 0.999, 1e-7
WARMUP = 0.05
ROTATION, SCALE, SHIFT, COLOR, GRAY, BLUR, OCCLUSION = 20.0, 0.15, 0.05, 0.2, 0.1, 0.1, 0.2


@dataclasses.dataclass(frozen=True)
class Plan:
    """How the runs of one call learn.

    Attributes:
        width, image_size, num_landmarks: of the networks.
        method: `supervised`, `student` (of labels that are given) or `mean_teacher`.
        steps: of a run.
        batch_size, unlabeled_batch_size: labeled and unlabeled faces in a step.
        learning_rate: the cosine's peak.
        strength: of the augmentation of labeled faces, and of a student's.
        moved_strength: of what a mean teacher's student sees of unlabeled faces.
        decay, start: of a mean teacher.
    """

    width: float
    image_size: int = 80
    num_landmarks: int = 68
    method: str = "supervised"
    steps: int = 4000
    batch_size: int = 8
    unlabeled_batch_size: int = 12
    learning_rate: float = 2e-2
    strength: float = 0.75
    moved_strength: float = 1.0
    decay: float = 0.998
    start: float = 0.25


# === Network ===


def layers(plan):
    """(name, kernel shape) of every convolution, in the order of the forward pass."""
    c = max(1, round(64 * plan.width))
    found = [("stem", (3, 3, 3, LEVELS[0] * c))]

    def block(name, size, before, after):
        inner = EXPANSION * before
        found.append((f"{name}_expand", (1, 1, before, inner)))
        found.append((f"{name}_depthwise", (size, size, inner, 1)))
        found.append((f"{name}_project", (1, 1, inner, after)))

    channels = LEVELS[0] * c
    for level, factor in enumerate(LEVELS, 1):
        if level > 1:
            block(f"encoder{level}_down", 3, channels, factor * c)
            channels = factor * c
        block(f"encoder{level}", 3, channels, channels)
    found.append(("decoder4", (1, 1, channels, DECODER * c)))
    for level in (3, 2, 1):
        found.append((f"decoder{level}_skip", (1, 1, LEVELS[level - 1] * c, DECODER * c)))
        block(f"decoder{level}", 5, DECODER * c, DECODER * c)
    found.append(("maps", (1, 1, DECODER * c, plan.num_landmarks)))
    return found


def first_weights(plan, key):
    """Random weights as Keras draws them, and the statistics of batch normalization."""
    weights, statistics = {}, {}
    shapes = layers(plan)
    for (name, shape), its_key in zip(shapes, jax.random.split(key, len(shapes)), strict=True):
        fans = shape[0] * shape[1] * (shape[2] + shape[3])
        limit = math.sqrt(6 / fans)
        weights[name] = {"kernel": jax.random.uniform(its_key, shape, minval=-limit, maxval=limit)}
        if name == "maps":
            weights[name]["bias"] = jnp.full(shape[-1], 8.0)
            continue
        channels = shape[2] if name.endswith("_depthwise") else shape[3]
        weights[name] |= {"gamma": jnp.ones(channels), "beta": jnp.zeros(channels)}
        statistics[name] = {"mean": jnp.zeros(channels), "variance": jnp.ones(channels)}
    return weights, statistics


def forward(plan, weights, statistics, images, training):
    """Logits of columns and rows, (B, S, K) each, and the statistics after."""
    after = dict(statistics)

    def normalized(x, name, activate):
        own = weights[name]
        if training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            new = {"mean": mean, "variance": variance}
            after[name] = jax.tree.map(
                lambda old, new: BN_MOMENTUM * old + (1 - BN_MOMENTUM) * jax.lax.stop_gradient(new),
                statistics[name],
                new,
            )
        else:
            mean, variance = statistics[name]["mean"], statistics[name]["variance"]
        factor = own["gamma"] * jax.lax.rsqrt(variance + EPSILON)
        x = x * factor + (own["beta"] - mean * factor)
        return jax.nn.relu(x) if activate else x

    def pointwise(x, name, activate=True):
        return normalized(x @ weights[name]["kernel"][0, 0], name, activate)

    def block(x, name, stride=1):
        y = depthwise(
            pointwise(x, f"{name}_expand"), weights[f"{name}_depthwise"]["kernel"], stride
        )
        y = normalized(y, f"{name}_depthwise", True)
        y = pointwise(y, f"{name}_project", False)
        return y if stride > 1 else x + y

    x = 4 * images - 1.8
    patches = jnp.concatenate(list(windows(x, 3, 2)), -1)
    kernel = weights["stem"]["kernel"]
    x = normalized(patches @ kernel.reshape(-1, kernel.shape[-1]), "stem", True)
    skips = []
    for level in range(1, 1 + len(LEVELS)):
        if level > 1:
            x = block(x, f"encoder{level}_down", 2)
        x = block(x, f"encoder{level}")
        skips.append(x)
    x = pointwise(skips.pop(), "decoder4", False)
    for level in (3, 2, 1):
        x = doubled(doubled(x, 1), 2) + pointwise(skips.pop(), f"decoder{level}_skip", False)
        x = block(x, f"decoder{level}")
    maps = jax.nn.relu(x) @ weights["maps"]["kernel"][0, 0] + weights["maps"]["bias"]
    maps = jax.nn.relu(maps)
    return doubled(maps.max(1), 1), doubled(maps.max(2), 1), after


def windows(x, size, stride):
    """The size² shifted copies of a padded image that a convolution's kernel weighs."""
    height, width = x.shape[1:3]
    total = size - stride if stride > 1 else size - 1  # of sides that the stride divides
    low = total // 2
    x = jnp.pad(x, ((0, 0), (low, total - low), (low, total - low), (0, 0)))
    for i in range(size):
        for j in range(size):
            yield x[:, i : i + height - stride + 1 : stride, j : j + width - stride + 1 : stride]


def depthwise(x, kernel, stride):
    size = kernel.shape[0]
    parts = zip(windows(x, size, stride), kernel.reshape(size * size, -1), strict=True)
    return sum(part * weight for part, weight in parts)


def doubled(x, axis):
    """Bilinear ×2 along an axis."""
    first, last = (jax.lax.slice_in_dim(x, i, i + 1, axis=axis) for i in (0, x.shape[axis] - 1))
    before = jnp.concatenate(
        [first, jax.lax.slice_in_dim(x, 0, x.shape[axis] - 1, axis=axis)], axis
    )
    behind = jnp.concatenate([jax.lax.slice_in_dim(x, 1, x.shape[axis], axis=axis), last], axis)
    pair = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * behind], axis + 1)
    return pair.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])


# === Augmentation ===


def draw_affine(key, count, strength, size):
    """Matrices (B, 2, 2), shifts (B, 2) about the center, and who is mirrored."""
    draws = jax.random.uniform(key, (count, 5))
    signed = 2 * draws - 1
    angle = signed[:, 0] * (ROTATION * strength * math.pi / 180)
    grown = jnp.exp(signed[:, 1] * math.log(1 + SCALE * strength))
    shift = signed[:, 2:4] * SHIFT * strength * size
    mirrored = draws[:, 4] < 0.5
    side = jnp.where(mirrored, -1.0, 1.0)
    cos, sin = grown * jnp.cos(angle), grown * jnp.sin(angle)
    matrix = jnp.stack([jnp.stack([cos * side, -sin], -1), jnp.stack([sin * side, cos], -1)], -2)
    return matrix, shift, mirrored


def warp(faces, index, matrix, shift, size):
    """Samples S×S pixels of faces[index], (N, S+2m, S+2m, 3) uint8, to float32 in [0, 1]."""
    center = (size - 1) / 2
    total = faces.shape[1]
    margin = (total - size) / 2
    inverse = jnp.linalg.inv(matrix)
    offset = center + margin - jnp.einsum("bij,bj->bi", inverse, shift + center)
    rows, columns = jnp.meshgrid(jnp.arange(size), jnp.arange(size), indexing="ij")
    grid = jnp.stack([columns, rows], -1).astype(jnp.float32)
    places = jnp.einsum("bij,hwj->bhwi", inverse, grid) + offset[:, None, None]
    places = jnp.clip(places, 0, total - 1)
    low = jnp.minimum(jnp.floor(places).astype(jnp.int32), total - 2)
    part = places - low
    x, y = low[..., 0], low[..., 1]
    of = index[:, None, None]
    right, down = part[..., :1], part[..., 1:]

    def at(y, x):
        return faces[of, y, x].astype(jnp.float32)

    top = at(y, x) * (1 - right) + at(y, x + 1) * right
    bottom = at(y + 1, x) * (1 - right) + at(y + 1, x + 1) * right
    return (top * (1 - down) + bottom * down) / 255


def uniform(key, count, columns):
    return jax.random.uniform(key, (count, columns))


def blur(images, key, probability):
    line = jnp.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    blurred = images
    for axis in (1, 2):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        padded = jnp.pad(blurred, pad, mode="symmetric")
        length = images.shape[axis]
        blurred = sum(
            w * jax.lax.slice_in_dim(padded, i, i + length, axis=axis) for i, w in enumerate(line)
        )
    draws = uniform(key, len(images), 2)
    share = draws[:, 0] * (draws[:, 1] < probability)
    return images + share[:, None, None, None] * (blurred - images)


def recolor(images, key, color):
    draws = uniform(key, len(images), 6)
    change = (2 * draws[:, :5] - 1) * color
    mean = images.mean((1, 2, 3), keepdims=True)
    images = (images - mean) * (1 + change[:, 0, None, None, None]) + mean
    images = images + change[:, 1, None, None, None] / 2
    images = images * (1 + change[:, None, None, 2:5] / 2)
    luma = (images * jnp.array([0.299, 0.587, 0.114])).sum(-1, keepdims=True)
    return jnp.clip(jnp.where(draws[:, 5, None, None, None] < GRAY, luma, images), 0, 1)


def occlude(images, key, probability):
    draws = uniform(key, len(images), 8)
    inside = draws[:, 7, None] < probability
    masks = []
    for axis, (center, length) in enumerate(((0, 1), (2, 3))):
        size = images.shape[1 + axis]
        half = (0.1 + 0.3 * draws[:, length, None]) * size / 2
        masks.append(jnp.abs(jnp.arange(size)[None] - draws[:, center, None] * size) < half)
    mask = masks[0][:, :, None] & masks[1][:, None, :] & inside[:, :, None]
    return jnp.where(mask[..., None], draws[:, None, None, 4:7], images)


def augment(key, faces, index, strength, size):
    """Faces (B, S, S, 3), moved and recolored, and what moved them."""
    keys = jax.random.split(key, 4)
    affine = draw_affine(keys[0], len(index), strength, size)
    images = warp(faces, index, *affine[:2], size)
    images = blur(images, keys[1], BLUR * strength)
    images = recolor(images, keys[2], COLOR * strength)
    return occlude(images, keys[3], OCCLUSION * strength), affine


def move_landmarks(landmarks, visible, affine, flip, size):
    """Landmarks where an affine takes them; one that has left the image is hidden."""
    matrix, shift, mirrored = affine
    landmarks = jnp.where(mirrored[:, None, None], landmarks[:, flip], landmarks)
    visible = jnp.where(mirrored[:, None], visible[:, flip], visible)
    center = (size - 1) / 2
    moved = jnp.einsum("bij,bkj->bki", matrix, landmarks - center) + shift[:, None] + center
    inside = ((moved >= -0.5) & (moved <= size - 0.5)).all(-1)
    return moved, visible * inside


# === Learning ===


def muon_step(gradient, momentum, rate):
    """(step, momentum) of a kernel."""
    momentum = MOMENTUM * momentum + gradient
    ahead = (gradient + MOMENTUM * momentum).reshape(-1, gradient.shape[-1])
    tall = ahead.shape[0] > ahead.shape[1]
    x = ahead.T if tall else ahead
    x = x / (jnp.linalg.norm(x) + 1e-7)
    a, b, c = POLYNOMIAL
    for _ in range(ROUNDS):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    x = x.T if tall else x
    size = 0.2 * math.sqrt(max(x.shape))
    return rate * size * x.reshape(gradient.shape), momentum


def adam_step(gradient, momentum, velocity, rate, count):
    momentum = momentum + (gradient - momentum) * (1 - BETA_1)
    velocity = velocity + (gradient**2 - velocity) * (1 - BETA_2)
    alpha = rate * jnp.sqrt(1 - BETA_2**count) / (1 - BETA_1**count)
    return alpha * momentum / (jnp.sqrt(velocity) + TINY), momentum, velocity


def learning_rate(plan, step):
    """The cosine's."""
    warmup = max(1, round(WARMUP * plan.steps))
    start = plan.learning_rate / 100
    rising = start + (plan.learning_rate - start) * step / warmup
    part = jnp.clip((step - warmup) / max(1, plan.steps - warmup), 0, 1)
    return jnp.where(step < warmup, rising, plan.learning_rate * (1 + jnp.cos(jnp.pi * part)) / 2)


def first_state(plan, key):
    weights, statistics = first_weights(plan, key)
    zeros = jax.tree.map(jnp.zeros_like, weights)
    state = {"weights": weights, "statistics": statistics, "momentum": zeros, "velocity": zeros}
    if plan.method == "mean_teacher":
        state["teacher"] = {"weights": weights, "statistics": statistics}
    return state


def taught(plan, teacher, faces, index, flip):
    """Landmarks and scales of faces as they are, a mean with those of their mirror images."""
    margin = (faces.shape[1] - plan.image_size) // 2
    inner = slice(margin, margin + plan.image_size)
    plain = faces[index][:, inner, inner].astype(jnp.float32) / 255
    both = jnp.concatenate([plain, plain[:, :, ::-1]])
    columns, rows, _ = forward(plan, teacher["weights"], teacher["statistics"], both, False)
    found, scale = heatmaps.decode_axes(columns, rows)
    (found, mirrored), (scale, other) = jnp.split(found, 2), jnp.split(scale, 2)
    mirrored = mirrored[:, flip] * jnp.array([-1.0, 1.0]) + jnp.array([plan.image_size - 1.0, 0.0])
    return (found + mirrored) / 2, (scale + other[:, flip]) / 2


def step(plan, flip, data, state, number, index, unlabeled_index, key):
    """One step of one run."""
    size, labeled = plan.image_size, plan.batch_size
    keys = jax.random.split(jax.random.fold_in(key, number), 2)
    images, affine = augment(keys[0], data["faces"], index, plan.strength, size)
    labels = data["labels"][index]
    target, visible = move_landmarks(labels[..., :2], labels[..., 2], affine, flip, size)
    scales_of = jnp.ones_like(target)
    if plan.method != "supervised":
        of_student = plan.method == "student"
        strength = plan.strength if of_student else plan.moved_strength
        more, affine = augment(keys[1], data["unlabeled"], unlabeled_index, strength, size)
        if of_student:
            other = data["pseudo"][unlabeled_index]
            scale = jnp.ones_like(other)
        else:
            other, scale = taught(plan, state["teacher"], data["unlabeled"], unlabeled_index, flip)
            scale = jnp.where(affine[2][:, None, None], scale[:, flip], scale)
        moved = move_landmarks(other, jnp.ones(other.shape[:2]), affine, flip, size)
        images = jnp.concatenate([images, more])
        target, visible = map(jnp.concatenate, zip((target, visible), moved, strict=True))
        scales_of = jnp.concatenate([scales_of, jnp.maximum(scale, 1)])

    def loss(weights):
        columns, rows, statistics = forward(plan, weights, state["statistics"], images, True)
        found, scales = heatmaps.decode_axes(columns, rows)
        divergence = losses.laplace_kl_divergence(found - target, scales, scales_of).sum(-1)
        of_faces = (divergence * visible).sum(1) / jnp.maximum(visible.sum(1), 1)
        if plan.method != "mean_teacher":
            return of_faces.mean(), statistics
        begun = (number >= round(plan.start * plan.steps)).astype(jnp.float32)
        both = of_faces[:labeled].mean() + begun * of_faces[labeled:].mean()
        return both / (1 + begun), statistics

    (value, statistics), gradients = jax.value_and_grad(loss, has_aux=True)(state["weights"])
    rate, count = learning_rate(plan, number), number + 1.0
    weights, momentum, velocity = {}, {}, {}
    for name, own in state["weights"].items():
        weights[name], momentum[name], velocity[name] = {}, {}, {}
        for kind, value_of in own.items():
            given = gradients[name][kind], state["momentum"][name][kind]
            v = state["velocity"][name][kind]
            if kind == "kernel":
                change, m = muon_step(*given, rate)
            else:
                change, m, v = adam_step(*given, v, rate, count)
            weights[name][kind] = value_of - change
            momentum[name][kind], velocity[name][kind] = m, v
    after = {
        "weights": weights,
        "statistics": statistics,
        "momentum": momentum,
        "velocity": velocity,
    }
    if plan.method == "mean_teacher":
        decay = jnp.minimum(plan.decay, count / (count + 9))
        after["teacher"] = jax.tree.map(
            lambda theirs, ours: decay * theirs + (1 - decay) * ours,
            state["teacher"],
            {"weights": weights, "statistics": statistics},
        )
    return after, value


def shuffled(random, pools, steps, batch_size):
    """Indices (steps, R, B): each run goes through its own faces in epochs of its own."""
    found = np.empty((steps, len(pools), batch_size), np.int32)
    for run, pool in enumerate(pools):
        passes = -(-steps * batch_size // len(pool))
        order = np.concatenate([random.permutation(pool) for _ in range(passes)])
        found[:, run] = order[: steps * batch_size].reshape(steps, batch_size)
    return found


def learn(plan, data, flip, pools, unlabeled_pools=None, seed=0, chunk=500, report=print):
    """Trains R runs, and gives their states, with an axis of R in front.

    Args:
        plan: a `Plan`.
        data: arrays: `faces` (N, P, P, 3) uint8, `labels` (N, K, 3), and where the method takes
            them `unlabeled` (M, P, P, 3) and `pseudo` (R, M, K, 2).
        flip: the scheme's mirror map.
        pools: R arrays of indices of labeled faces; unlabeled_pools: the same of unlabeled ones.
        seed: of all that is random.
        chunk: steps in a call.
        report: called with a line after each chunk.
    """
    random, runs = np.random.default_rng(seed), len(pools)
    flip = jnp.asarray(flip)
    # Random numbers of the device's own make are cheaper than JAX's default.
    keys = jax.random.split(jax.random.key(seed, impl="rbg"), runs)
    axes = {name: 0 if name == "pseudo" else None for name in data}
    one = functools.partial(step, plan, flip)
    every = jax.vmap(one, in_axes=(axes, 0, None, 0, 0, 0))

    @functools.partial(jax.jit, donate_argnums=(1,))
    def several(data, states, numbers, index, other, keys):
        def body(states, given):
            return every(data, states, *given, keys)

        states, found = jax.lax.scan(body, states, (numbers, index, other))
        return states, found.mean(0)

    indices = shuffled(random, pools, plan.steps, plan.batch_size)
    others = np.zeros((plan.steps, runs, 0), np.int32)
    if plan.method != "supervised":
        others = shuffled(random, unlabeled_pools, plan.steps, plan.unlabeled_batch_size)
    first_keys = jax.random.split(jax.random.key(seed + 1), runs)
    states = jax.vmap(functools.partial(first_state, plan))(first_keys)
    states = jax.tree.map(jnp.copy, states)  # a call gives its states' memory away, each once
    begun = time.monotonic()
    for first in range(0, plan.steps, chunk):
        part = slice(first, min(first + chunk, plan.steps))
        numbers = jnp.arange(part.start, part.stop)
        states, found = several(data, states, numbers, indices[part], others[part], keys)
        mean, passed = float(found.mean()), time.monotonic() - begun
        report(f"{part.stop:,} of {plan.steps:,} steps, {passed:.0f} s, loss {mean:.3f}")
    return states


@functools.partial(jax.jit, static_argnums=0)
def _located(plan, weights, statistics, images):
    def one(weights, statistics):
        columns, rows, _ = forward(plan, weights, statistics, images, False)
        return heatmaps.decode_axes(columns, rows)[0]

    return jax.vmap(one)(weights, statistics)


def locate(plan, states, images, batch=100):
    """Landmarks (R, N, K, 2) of images (N, S, S, 3) uint8."""
    parts = [
        np.asarray(
            _located(
                plan,
                states["weights"],
                states["statistics"],
                jnp.asarray(images[i : i + batch]).astype(jnp.float32) / 255,
            )
        )
        for i in range(0, len(images), batch)
    ]
    return np.concatenate(parts, 1)


def label(plan, states, faces, flip, batch=64):
    """Landmarks (R, M, K, 2) of unlabeled faces, means with those of their mirror images."""
    flip = jnp.asarray(flip)

    @jax.jit
    def some(weights, statistics, faces, index):
        def one(weights, statistics):
            teacher = {"weights": weights, "statistics": statistics}
            return taught(plan, teacher, faces, index, flip)[0]

        return jax.vmap(one)(weights, statistics)

    parts = []
    for first in range(0, len(faces), batch):
        index = jnp.minimum(jnp.arange(first, first + batch), len(faces) - 1)
        parts.append(some(states["weights"], states["statistics"], faces, index))
    return jnp.concatenate(parts, 1)[:, : len(faces)]
