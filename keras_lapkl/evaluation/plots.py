"""Pictures of what a model sees: predictions with their scales, heatmaps, D's answers to them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from keras_lapkl._support import extras
from keras_lapkl._support.files import replacing
from keras_lapkl._support.types import PathLike
from keras_lapkl.evaluation import scoring

CELL = 2.6
"""Inches of one picture in a sheet."""

TRUE, PREDICTED = "#3fb8ff", "#ff9d2e"
"""Blue and orange: told apart by color-blind people, too."""

FEW = 24
"""Landmarks up to which there is room for larger dots."""

MAX_VALUES = 8
"""Patches a side up to which the value of each is legible."""

_MOST_NAMED = 30
"""Groups of points up to which each has its name."""

_LONGEST = 40
"""Letters of a title."""


def figure(width: float, height: float) -> Any:
    """A matplotlib figure of that many inches, without a display.

    Raises:
        ModuleNotFoundError: matplotlib, an optional extra, is not installed.
    """
    with extras.needed_by("Drawing"):
        from matplotlib.figure import Figure
    return Figure(figsize=(width, height), layout="constrained")


def predictions(
    images: NDArray[Any],
    landmarks: NDArray[Any],
    path: PathLike,
    labels: NDArray[Any] | None = None,
    scale: NDArray[Any] | None = None,
    edges: Sequence[tuple[int, int]] = (),
    columns: int = 4,
) -> None:
    """Saves a sheet of faces with the predicted landmarks, beside the true ones if they are given.

    Args:
        images: (N, S, S, 3) uint8.
        landmarks: (≥N, K, 2) pixels, predicted: orange dots.
        path: file to write; its suffix says the format.
        labels: (≥N, K, 2) pixels, true: blue rings, each joined to its prediction by a white line.
            NaN where not known.
        scale: (≥N, K, 2) pixels, drawn as the half axes of an ellipse about each prediction.
        edges: pairs of landmarks to join, the true ones if there are any.
        columns: faces in a row.
    """
    columns = min(columns, len(images))
    rows = math.ceil(len(images) / columns)
    sheet = figure(CELL * columns, CELL * rows + 0.3)
    for i, image in enumerate(images):
        axes = sheet.add_subplot(rows, columns, i + 1)
        _show(axes, image)
        _draw_prediction(
            axes,
            landmarks[i],
            None if labels is None else labels[i],
            None if scale is None else scale[i],
            edges,
        )
    handles, titles = sheet.axes[0].get_legend_handles_labels()
    sheet.legend(handles, titles, loc="outside lower center", ncols=len(titles), frameon=False)
    _save(sheet, path)


def heatmaps(images: NDArray[Any], maps: Mapping[str, NDArray[Any]], path: PathLike) -> None:
    """Saves the heatmaps of several models on the same faces, one column a model.

    Each picture shows, at every pixel, the largest of the K heatmaps, each relative to its own
    peak: a sharp map is a point, a wide one a cloud. A map that is the same at every pixel, as that
    of a hidden landmark, is left out.

    Args:
        images: (N, S, S, 3) uint8, the first column.
        maps: dict of title → (N, S, S, K) heatmaps.
        path: file to write.
    """

    def column(values):
        return lambda axes, i: _draw_maps(axes, values[i])

    columns = {title: column(values) for title, values in maps.items()}
    _save(_sheet(images, {"face": lambda axes, i: None, **columns}), path)


def adversarial(
    images: NDArray[Any],
    landmarks: NDArray[Any],
    maps: NDArray[Any],
    path: PathLike | BinaryIO,
    labels: NDArray[Any] | None = None,
    true_maps: NDArray[Any] | None = None,
    patches: NDArray[Any] | None = None,
    true_patches: NDArray[Any] | None = None,
    dpi: int = 150,
) -> None:
    """Saves what a localizer G makes of faces, and a discriminator D of that, one row a face.

    The columns: the face with its landmarks; ω, the heatmaps of the labels, beside those of G, both
    drawn as by `heatmaps`; D's answers on either, patch by patch, and their mean. Blue is taken for
    true, red for generated. What is not given has no column.

    Args:
        images: (N, S, S, 3), uint8 or float in [0, 1].
        landmarks: (N, K, 2) pixels, predicted: dots, as in `predictions`.
        maps: (N, S, S, K) heatmaps of G.
        path: file to write, whose suffix says the format; or a binary file, which gets a PNG.
        labels: (N, K, 2|3) pixels: rings, joined to the dots. Hidden ones are left out.
        true_maps: (N, S, S, K), ω of the labels.
        patches: (N, h, w) in [0, 1], D's chance that each patch of G's heatmaps is true.
        true_patches: the same of ω.
        dpi: pixels an inch; a picture is 2.6 inches wide.

    Example:

    >>> seen = callbacks.views(model, images, landmarks)["labeled"]
    >>> plots.adversarial(path="faces.png", **seen)
    """
    if labels is not None:
        shown = (labels[..., 2:] > 0).all(-1, keepdims=True)
        labels = np.where(shown, labels[..., :2], np.nan)
    columns = {
        "face": lambda axes, i: _draw_prediction(
            axes, landmarks[i], None if labels is None else labels[i], None, ()
        )
    }
    if true_maps is not None:
        columns["ω of the labels"] = lambda axes, i: _draw_maps(axes, true_maps[i])
    columns["heatmaps of G"] = lambda axes, i: _draw_maps(axes, maps[i])
    if true_patches is not None:
        columns["D on ω"] = lambda axes, i: _draw_patches(axes, images[i], true_patches[i])
    if patches is not None:
        columns["D on G"] = lambda axes, i: _draw_patches(axes, images[i], patches[i])
    _save(_sheet(images, columns), path, dpi)


def confidence(found: Mapping[str, Any], path: PathLike) -> None:
    """Saves what `evaluation.check_confidence` found: five small plots.

    Args:
        found: its dict.
        path: file to write.
    """
    sheet = figure(3 * 3.4, 2 * 3.2)
    reliability, coverage, selective, tenths = (sheet.add_subplot(2, 3, i) for i in (1, 2, 3, 4))
    expected, measured = found["reliability"]["expected"], found["reliability"]["measured"]
    _diagonal(reliability, 1.1 * max(*expected, *measured))
    reliability.plot(expected, measured, "o-", markersize=4)
    reliability.set(xlabel="expected error, px", ylabel="measured error, px", title="reliability")
    asked, shares = (np.array(each, float) for each in zip(*found["coverage"].items(), strict=True))
    _diagonal(coverage, 1)
    coverage.plot(asked, shares, "o-", markersize=4)
    coverage.set(xlabel="asked", ylabel="within the radius", title="coverage")
    kept, errors = zip(*found["selective"].items(), strict=True)
    selective.plot([100 * float(share) for share in kept], errors, "o-", markersize=4)
    selective.set(
        xlabel="surest % of the faces",
        ylabel="mean error, px",
        title="selection",
        ylim=(0, 1.1 * max(errors)),
    )
    _draw_tenths(tenths, found["radius"])
    _draw_groups(sheet.add_subplot(2, 3, (5, 6)), found["radius"])
    _save(sheet, path)


def _draw_tenths(axes, radius):
    axes.axhline(radius["asked"], color="gray", linewidth=0.8)
    titles = {
        "faces_by_expected_error": "faces by expected error",
        "points_by_expected_error": "points by expected error",
        "faces_by_error": "faces by error, afterwards",
    }
    for (key, title), mark in zip(titles.items(), ("o-", "s-", "x:"), strict=True):
        shares = np.array(radius[key], float)  # None is NaN
        axes.plot(range(1, len(shares) + 1), shares, mark, markersize=4, label=title)
    axes.set(
        xlabel="tenth, the largest last",
        ylabel=f"within the {radius['asked']:.0%} radius",
        title="coverage by tenth",
        xticks=range(1, 11),
    )
    axes.legend(loc="lower left", fontsize=7)


def _draw_groups(axes, radius):
    shares = radius["group"]
    axes.axhline(radius["asked"], color="gray", linewidth=0.8)
    axes.plot(range(len(shares)), list(shares.values()), "o", markersize=4)
    few = len(shares) <= _MOST_NAMED
    names = [_shown(name) for name in shares] if few else []
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right", fontsize=7)
    axes.set(title="coverage by group of points")


def ced(errors: Mapping[str, ArrayLike], path: PathLike, unit: str) -> None:
    """Saves cumulative error distributions: the share of faces with at most a given error.

    The axis of the errors goes as far as each curve needs to show 90 % of its finite ones.

    Args:
        errors: dict from title to (N,) percent, as `scoring.face_errors` gives them.
        path: file to write.
        unit: what the errors are a percentage of.
    """
    limit = _reach(errors.values())
    sheet = figure(6.4, 4.4)
    axes = sheet.add_subplot()
    for title, each in errors.items():
        found, shares = scoring.ced(np.asarray(each))
        last = shares[-1:] if len(shares) else [0]
        # The curve is a step at each face, from 0 and on to the edge of the picture.
        x, y = np.concatenate([[0], found, [np.inf]]), np.concatenate([[0], shares, last])
        axes.step(
            np.minimum(x, 2 * limit), 100 * y, where="post", linewidth=1.4, label=_shown(title)
        )
    axes.set(xlabel=f"error, % of the {unit}", ylabel="faces, %", xlim=(0, limit), ylim=(0, 100))
    axes.grid(linewidth=0.4)
    axes.legend(loc="best")
    _save(sheet, path)


def _reach(curves):
    """The largest of the 90th percentiles of finite errors, up to the next 1 or 5 of its place."""
    finite = [errors[np.isfinite(errors)] for errors in map(np.asarray, curves)]
    reach = max((np.percentile(errors, 90) for errors in finite if len(errors)), default=0)
    if reach <= 0:
        return 10.0
    step = 10 ** math.floor(math.log10(reach)) / 2
    return step * math.ceil(reach / step)


def _diagonal(axes, end):
    axes.plot([0, end], [0, end], color="gray", linewidth=0.8)
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")


def _sheet(images, columns):
    """A figure of one row a face; `columns` is title → what draws row i onto the face."""
    sheet = figure(CELL * len(columns), CELL * len(images))
    for i, image in enumerate(images):
        for j, (title, draw) in enumerate(columns.items()):
            axes = sheet.add_subplot(len(images), len(columns), i * len(columns) + j + 1)
            _show(axes, image)
            draw(axes, i)
            if i == 0:
                axes.set_title(_shown(title))
    return sheet


def _show(axes, image):
    axes.imshow(image)
    axes.set_axis_off()
    axes.set(xlim=(-0.5, image.shape[1] - 0.5), ylim=(image.shape[0] - 0.5, -0.5))


def _draw_prediction(axes, points, truth, scale, edges):
    from matplotlib.collections import EllipseCollection, LineCollection

    size = 1 if len(points) > FEW else 3
    joined = points if truth is None else truth
    lines = [joined[list(edge)] for edge in edges]
    color = PREDICTED if truth is None else TRUE
    axes.add_collection(LineCollection(lines, colors=color, linewidths=0.5, alpha=0.7))
    if scale is not None:
        widths, heights = 2 * scale.T
        ellipses = EllipseCollection(
            widths,
            heights,
            np.zeros(len(scale)),
            units="xy",
            offsets=points,
            offset_transform=axes.transData,
            facecolors="none",
            edgecolors=PREDICTED,
            linewidths=0.5,
        )
        axes.add_collection(ellipses)
        of_one = {"facecolors": "none", "edgecolors": PREDICTED, "linewidths": 0.5}
        axes.scatter([], [], s=40, label="scale", **of_one)  # the legend takes no collection
    if truth is not None:
        white = {"color": "white", "linewidth": 0.7, "path_effects": _outline(1.5), "zorder": 2}
        axes.add_collection(LineCollection(list(np.stack([points, truth], 1)), **white))
        rings = {"facecolors": "none", "edgecolors": TRUE, "linewidths": 0.9, "zorder": 3}
        axes.scatter(*truth.T, s=10 * size, label="truth", **rings)
        axes.plot([], [], label="error", **white)
    axes.scatter(*points.T, s=8 * size, color=PREDICTED, linewidths=0, label="prediction", zorder=4)


def _outline(width):
    """Dark about a bright line, for bright pictures."""
    from matplotlib.patheffects import Normal, Stroke

    return [Stroke(linewidth=width, foreground="black", alpha=0.5), Normal()]


def _draw_maps(axes, maps):
    """At every pixel the largest of the K maps, each relative to its own peak."""
    peaks = maps.max(axis=(0, 1))
    shaped = maps.min(axis=(0, 1)) < (1 - 1e-6) * peaks
    relative = np.max(maps[..., shaped] / peaks[shaped], axis=-1, initial=0)
    lifted = np.sqrt(relative)  # so that small values are seen
    axes.imshow(lifted, cmap="inferno", vmin=0, vmax=1, alpha=0.85)


def _draw_patches(axes, image, patches):
    """Patches as wide as the image, over it in gray, with their values and their mean."""
    height, width = patches.shape
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.imshow(image.mean(-1), cmap="gray")
    extent = (left, right, bottom, top)
    axes.imshow(patches, cmap="RdBu", vmin=0, vmax=1, alpha=0.65, extent=extent)
    below = {"transform": axes.transAxes, "ha": "center", "va": "top"}
    axes.text(0.5, -0.02, f"mean {patches.mean():.2f}", **below)
    if max(height, width) > MAX_VALUES:
        return
    for (row, column), value in np.ndenumerate(patches):
        x = left + (column + 0.5) / width * (right - left)
        y = top + (row + 0.5) / height * (bottom - top)
        color = "black" if 0.2 < value < 0.8 else "white"
        axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=7, color=color)


def _save(sheet, path, dpi=150):
    if hasattr(path, "write"):
        sheet.savefig(path, dpi=dpi, format="png")
        return
    with replacing(path) as temporary:
        sheet.savefig(temporary, dpi=dpi)


def _shown(title):
    """A title as text: the name of a file may be too long, not UTF-8, or look like mathematics."""
    title = title.encode(errors="backslashreplace").decode()
    return (title if len(title) <= _LONGEST else title[: _LONGEST - 1] + "…").replace("$", r"\$")
