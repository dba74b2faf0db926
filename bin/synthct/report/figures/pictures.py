"""Pictures of patients: registration before and after, error maps. All panels of a figure share window and slice."""

import zipfile
from typing import Any

import numpy as np
from scipy import ndimage

from synthct.core.errors import InputError
from synthct.report.figures.style import FULL, HALF, SOFT, bare, canvas, png, styled

PLANES = ("axial", "coronal", "sagittal")
WINDOW = (-300.0, 500.0)  # HU, every CT and sCT
ERROR = 300.0  # HU, colour scale of sCT − CT is ± this
UNCERTAINTY = 150.0  # HU, top of the uncertainty's scale
COLUMNS = (
    ("image", "input"),
    ("sct", "synthetic CT"),
    ("ct", "CT"),
    ("error", "sCT − CT"),
    ("uncertainty", "uncertainty"),
)
GRID_PANEL = 2.1  # inches, width of a panel of the train × test grid
APART = 0.4  # MIND distance, top of its scale
EDGE = "#E69F00"
DPI = 130


@styled
def error_map(cells: list[tuple[str, dict[str, np.ndarray]]], plane: str = "axial") -> bytes:
    """One row a (label, arrays of evaluate.py --slices): input, sCT, CT, sCT − CT and, where there is one,
    uncertainty.
    """
    columns = [
        (key, title)
        for key, title in COLUMNS
        if key == "error" or any(f"{plane}_{key}" in arrays for _, arrays in cells)
    ]
    cells = [(label, cropped(arrays, plane)) for label, arrays in cells]
    side = (FULL - 0.35) / len(columns)
    tall = max(arrays["ct"].shape[0] / arrays["ct"].shape[1] for _, arrays in cells)
    panel = side * min(tall, 1.6)
    figure, axes = canvas(
        FULL, panel * len(cells) + 0.75, len(cells) + 1, len(columns), height_ratios=[panel] * len(cells) + [0.09]
    )
    axes, bars = axes[:-1], axes[-1]
    shown: dict[str, Any] = {}  # what a column's colour bar explains
    for number, (row, (label, arrays)) in enumerate(zip(axes, cells, strict=True)):
        for axis, (key, title) in zip(row, columns, strict=True):
            shown[key] = _panel(axis, key, arrays) or shown.get(key)
            if number == 0:
                axis.set_title(title, loc="center", fontsize=9)
        row[0].set_ylabel(label, fontsize=9)
    for axis, (key, _) in zip(bars, columns, strict=True):
        if key == "image" or shown.get(key) is None:
            axis.set_axis_off()
        else:
            _bar(figure, shown[key], axis)
    return png(figure, DPI)


@styled
def error_grid(
    cells: dict[tuple[str, str], dict[str, np.ndarray]], names: dict[str, str], plane: str = "axial"
) -> bytes:
    """sCT − CT of one patient for every (trained, tested): rows are models, columns test registrations; one scale."""
    trained, tested = ([arm for arm in names if arm in {cell[i] for cell in cells}] for i in (0, 1))
    pictures = {cell: cropped(arrays, plane) for cell, arrays in cells.items()}
    tall = max(arrays["ct"].shape[0] / arrays["ct"].shape[1] for arrays in pictures.values())
    panel = GRID_PANEL * min(tall, 1.3)
    figure, axes = canvas(
        0.4 + GRID_PANEL * len(tested),
        panel * len(trained) + 0.75,
        len(trained) + 1,
        len(tested),
        height_ratios=[panel] * len(trained) + [0.09],
    )
    axes, bars = axes[:-1], axes[-1]
    for number, (row, model) in enumerate(zip(axes, trained, strict=True)):
        for axis, images in zip(row, tested, strict=True):
            bare(axis)
            if (model, images) in pictures:
                drawn = _panel(axis, "error", pictures[model, images])
            if number == 0:
                axis.set_title(f"tested on {names[images]}", loc="center", fontsize=9)
        row[0].set_ylabel(f"trained on {names[model]}", fontsize=9)
    for axis in bars[1:]:
        axis.set_axis_off()
    _bar(figure, drawn, bars[0])
    return png(figure, DPI)


@styled
def registration_pair(arrays: dict[str, np.ndarray]) -> bytes:
    """The moving image in grey before and after registration, the fixed image's strongest edges over it in orange.

    Arrays of register.py --preview: "fixed", "before", "after" and "mask", each (3, h, w).
    """
    stretch = [_range(arrays[name]) for name in ("before", "fixed")]
    planes = [_window(arrays["mask"][i]) for i in range(3)]
    ratios = [max((w[1].stop - w[1].start) / (w[0].stop - w[0].start), 0.2) for w in planes]
    height = (HALF - 0.25) / sum(ratios)
    figure, axes = canvas(HALF, 2 * min(height, 2.4) + 0.35, 2, 3, width_ratios=ratios)
    for number, (row, moment) in enumerate(zip(axes, ("before", "after"), strict=True)):
        for i, axis in enumerate(row):
            picture = _scaled(arrays[moment][i][planes[i]], *stretch[0])
            edges = _edges(_scaled(arrays["fixed"][i][planes[i]], *stretch[1]))
            axis.imshow(_painted(picture, edges), interpolation="nearest", aspect="auto" if height > 2.4 else "equal")
            bare(axis)
            if number == 0:
                axis.set_title(PLANES[i], loc="center", fontsize=8.5, weight="normal")
        row[0].set_ylabel(moment, fontsize=9)
    return png(figure, 160)


@styled
def distance_maps(previews: list[tuple[str, dict[str, np.ndarray]]]) -> bytes:
    """Where images and their partners differ: local MIND distance before, and after each registration (the paper's
    figure 1), axial above coronal.

    `previews` are (label, arrays of register.py --preview) with "distance_before" and "distance_after" in thousandths;
    "before" is the first one's.
    """
    panels = [("before", previews[0][1], "distance_before")]
    panels += [(label, arrays, "distance_after") for label, arrays in previews]
    figure, axes = canvas(HALF, 2.0 * HALF / len(panels) + 0.9, 3, len(panels), height_ratios=[1, 1, 0.07])
    for column, (label, arrays, name) in enumerate(panels):
        for row in (0, 1):
            inside = arrays["mask"][row] > 0
            window = _window(arrays["mask"][row])
            values = np.where(inside, arrays[name][row] / 1000.0, np.nan)[window]
            drawn = axes[row, column].imshow(values, cmap="inferno", vmin=0, vmax=APART, interpolation="nearest")
            bare(axes[row, column])
        inside = arrays["mask"] > 0
        mean = float(arrays[name][inside].mean()) / 1000 if inside.any() else float("nan")
        axes[0, column].set_title(f"{label}\n{mean:.3f}", loc="center", fontsize=8.5, weight="normal")
        axes[2, column].set_axis_off()
    axes[2, 0].set_axis_on()
    bar = figure.colorbar(drawn, cax=axes[2, 0], orientation="horizontal")
    axes[2, 0].tick_params(labelsize=7.5, length=2)
    axes[2, 0].grid(visible=False)
    bar.outline.set_linewidth(0.4)
    return png(figure, 160)


def load(path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; nothing in it is ever unpickled."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as fault:
        raise InputError(f"pictures {path}: cannot be read ({fault})") from None


def cropped(arrays: dict[str, np.ndarray], plane: str) -> dict[str, np.ndarray]:
    """One plane's arrays by name, cut to the mask and a margin."""
    window = _window(arrays[f"{plane}_mask"])
    return {
        name.removeprefix(f"{plane}_"): array[window] for name, array in arrays.items() if name.startswith(f"{plane}_")
    }


def _panel(axis, key: str, arrays: dict[str, np.ndarray]):
    """Draw one panel and return what a colour bar needs; a panel without its array stays empty."""
    bare(axis)
    mask = arrays["mask"] > 0
    if key == "error":
        values = np.where(mask, arrays["sct"].astype(np.float32) - arrays["ct"], np.nan)
        return axis.imshow(values, cmap="RdBu_r", vmin=-ERROR, vmax=ERROR, interpolation="nearest")
    if key not in arrays:
        axis.text(0.5, 0.5, "–", ha="center", va="center", transform=axis.transAxes, color=SOFT)
        return None
    values = arrays[key].astype(np.float32)
    if key == "uncertainty":
        return axis.imshow(
            np.where(mask, values, np.nan), cmap="cividis", vmin=0, vmax=UNCERTAINTY, interpolation="nearest"
        )
    low, high = (0, 1000) if key == "image" else WINDOW
    picture = axis.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    if mask.any() and not mask.all():
        axis.contour(mask, [0.5], colors=[EDGE], linewidths=0.6, alpha=0.8)
    return picture


def _bar(figure, picture, axis):
    bar = figure.colorbar(picture, cax=axis, orientation="horizontal")
    axis.tick_params(labelsize=7.5, length=2)
    axis.grid(visible=False)
    bar.outline.set_linewidth(0.4)
    bar.set_label("HU", fontsize=7.5, labelpad=0)


def _window(mask: np.ndarray, margin: int = 6) -> tuple[slice, slice]:
    if not mask.any():
        return slice(None), slice(None)
    y, x = (slice(max(int(where.min()) - margin, 0), int(where.max()) + margin + 1) for where in np.nonzero(mask))
    return y, x


def _range(values: np.ndarray) -> tuple[float, float]:
    """What is drawn black and white: the CT window for HU (air below −500), else the values' own range without its
    ends.
    """
    if not values.size or values.min() < -500:
        return WINDOW
    low, high = np.percentile(values, (1, 98))
    return float(low), float(high)


def _scaled(plane: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((plane.astype(np.float32) - low) / max(high - low, 1e-6), 0, 1)


def _edges(plane: np.ndarray) -> np.ndarray:
    """The strongest twentieth of the gradient, thinned by keeping ridges."""
    gradient = ndimage.gaussian_gradient_magnitude(plane, 1.2)
    ridge = (gradient >= ndimage.maximum_filter1d(gradient, 3, 0)) | (
        gradient >= ndimage.maximum_filter1d(gradient, 3, 1)
    )
    return ridge & (gradient > np.quantile(gradient, 0.85))


def _painted(picture: np.ndarray, edges: np.ndarray) -> np.ndarray:
    painted = np.repeat(picture[..., None], 3, axis=-1)
    painted[edges] = 0.25 * painted[edges] + 0.75 * np.array([0.902, 0.624, 0.0])
    return painted
