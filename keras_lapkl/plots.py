"""Pictures of what a model sees: predictions with their scales, and heatmaps side by side."""

import math

import numpy as np

from keras_lapkl import runs


def _figure(width, height):
    """A matplotlib figure of that many inches, without a display; an optional extra."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("Pictures need matplotlib: pip install 'keras_lapkl[plots]'") from error
    return Figure(figsize=(width, height), layout="constrained")


def predictions(images, landmarks, scale, path, edges=(), columns=8):
    """Saves a sheet of faces with their landmarks, each inside the ellipse of its scales.

    Args:
        images: (N, S, S, 3) uint8.
        landmarks: (≥N, K, 2) pixels.
        scale: (≥N, K, 2) pixels, drawn as the half axes of an ellipse.
        path: file to write; its suffix says the format.
        edges: pairs of landmarks to join.
        columns: faces in a row.
    """
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    figure = _figure(2.2 * columns, 2.2 * rows)
    from matplotlib.collections import EllipseCollection, LineCollection

    for i, image in enumerate(images):
        axes = figure.add_subplot(rows, columns, i + 1)
        _show(axes, image)
        axes.add_collection(
            LineCollection([landmarks[i, list(e)] for e in edges], colors="white", linewidths=0.4)
        )
        axes.add_collection(
            EllipseCollection(
                *(2 * scale[i].T),
                np.zeros(len(scale[i])),
                units="xy",
                offsets=landmarks[i],
                offset_transform=axes.transData,
                facecolors=(0.1, 1.0, 0.4, 0.35),
                edgecolors=(0.1, 1.0, 0.4, 0.9),
                linewidths=0.4,
            )
        )
    _save(figure, path)


def heatmaps(images, maps, path, gamma=0.5):
    """Saves the heatmaps of several models on the same faces, one column a model.

    Each picture shows, at every pixel, the largest of the K heatmaps, each relative to its own
    peak: a sharp map is a point, a wide one a cloud.

    Args:
        images: (N, S, S, 3) uint8, the first column.
        maps: dict of title → (N, S, S, K) heatmaps.
        path: file to write.
        gamma: exponent that lifts small values, in (0, 1].
    """
    figure = _figure(2.6 * (1 + len(maps)), 2.6 * len(images))
    for i, image in enumerate(images):
        for j, (title, values) in enumerate([("face", None), *maps.items()]):
            axes = figure.add_subplot(len(images), 1 + len(maps), i * (1 + len(maps)) + j + 1)
            _show(axes, image)
            if values is not None:
                relative = values[i] / values[i].max(axis=(0, 1), keepdims=True)
                axes.imshow(relative.max(-1) ** gamma, cmap="inferno", vmin=0, vmax=1, alpha=0.85)
            if i == 0:
                axes.set_title(title)
    _save(figure, path)


def _show(axes, image):
    axes.imshow(image)
    axes.set_axis_off()
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def _save(figure, path):
    with runs.replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
