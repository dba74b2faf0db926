"""Pictures of patients: registration before and after, error maps. All panels of a figure share window and slice."""

import numpy as np
from matplotlib.colors import ListedColormap

from synthct.figures.style import FAINT, canvas, png

PLANES = ("axial", "coronal", "sagittal")
WINDOW = (-300.0, 500.0)  # HU, every CT and sCT
ERROR = 300.0  # HU, colour scale of sCT − CT is ± this
UNCERTAINTY = 150.0  # HU, top of the uncertainty's scale
COLUMNS = (("image", "input"), ("sct", "synthetic CT"), ("ct", "CT"), ("error", "sCT − CT"), ("uncertainty", "uncertainty"))
DPI = 150


def error_map(cells: list[tuple[str, dict[str, np.ndarray]]], plane: str = "axial") -> bytes:
    """One row a (label, arrays of evaluate.py --slices): input, sCT, CT, sCT − CT and, where there is one, uncertainty."""
    columns = [(key, title) for key, title in COLUMNS
               if key == "error" or any(f"{plane}_{key}" in arrays for _, arrays in cells)]
    height, width = max((arrays[f"{plane}_ct"].shape for _, arrays in cells), key=lambda shape: shape[0] / shape[1])
    side = 7.4 / len(columns)
    figure, axes = canvas(7.6, (side * height / width) * len(cells) + 0.75, len(cells), len(columns))
    shown = {}
    for row, (label, arrays) in zip(axes, cells, strict=True):
        for axis, (key, title) in zip(row, columns, strict=True):
            shown[key] = _panel(axis, key, arrays, plane) or shown.get(key)
            if row is axes[0]:
                axis.set_title(title, loc="center", fontsize=8.5)
        row[0].set_ylabel(label, fontsize=8)
    keys = [key for key, _ in columns]
    for key, label in (("ct", "HU"), ("error", "HU"), ("uncertainty", "HU")):
        if shown.get(key) is not None:
            bar = figure.colorbar(shown[key], ax=list(axes[:, keys.index(key)]), location="bottom", fraction=0.05, pad=0.02)
            bar.ax.tick_params(labelsize=7, length=2)
            bar.outline.set_linewidth(0.4)
            bar.set_label(label, fontsize=7, labelpad=0)
    return png(figure, DPI)


def registration_pair(arrays: dict[str, np.ndarray], label: str) -> bytes:
    """Fixed image with the moving one before and after, in colour overlay: three planes, two rows.

    Magenta is the fixed image's, green the moving one's; where they agree the sum is grey.
    """
    figure, axes = canvas(7.4, 4.6, 2, 3)
    for row, moment in zip(axes, ("before", "after"), strict=True):
        for axis, fixed, moving, plane in zip(row, arrays["fixed"], arrays[moment], PLANES, strict=True):
            a, b = _stretched(fixed), _stretched(moving)
            axis.imshow(np.stack([a, b, a], axis=-1), interpolation="nearest")
            _bare(axis)
            if row is axes[0]:
                axis.set_title(plane, loc="center", fontsize=8.5)
        row[0].set_ylabel(f"{label}: {moment}" if label else moment, fontsize=8.5)
    return png(figure, DPI)


def load(path) -> dict[str, np.ndarray]:
    """The arrays of an npz file; nothing in it is ever unpickled."""
    with np.load(path, allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _panel(axis, key: str, arrays: dict[str, np.ndarray], plane: str):
    """Draw one panel and return what a colour bar needs; a panel without its array stays empty."""
    _bare(axis)
    mask = arrays[f"{plane}_mask"] > 0
    if key == "error":
        values = np.where(mask, arrays[f"{plane}_sct"].astype(np.float32) - arrays[f"{plane}_ct"], np.nan)
        return axis.imshow(values, cmap="RdBu_r", vmin=-ERROR, vmax=ERROR, interpolation="nearest")
    values = arrays.get(f"{plane}_{key}")
    if values is None:
        axis.text(0.5, 0.5, "–", ha="center", va="center", transform=axis.transAxes, color=FAINT)
        return None
    values = values.astype(np.float32)
    if key == "uncertainty":
        return axis.imshow(np.where(mask, values, np.nan), cmap="cividis", vmin=0, vmax=UNCERTAINTY, interpolation="nearest")
    low, high = (0, 1000) if key == "image" else WINDOW
    picture = axis.imshow(values, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    edge = np.ma.masked_where(mask ^ _grown(mask) == 0, np.ones_like(values))
    axis.imshow(edge, cmap=ListedColormap(["#E69F00"]), alpha=0.55, interpolation="nearest")
    return picture


def _grown(mask: np.ndarray) -> np.ndarray:
    grown = mask.copy()
    grown[1:] |= mask[:-1]
    grown[:-1] |= mask[1:]
    grown[:, 1:] |= mask[:, :-1]
    grown[:, :-1] |= mask[:, 1:]
    return grown


def _stretched(plane: np.ndarray) -> np.ndarray:
    values = plane.astype(np.float32)
    low, high = np.percentile(values, (1, 99.5))
    return np.clip((values - low) / max(high - low, 1e-6), 0, 1)


def _bare(axis):
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for side in axis.spines.values():
        side.set_visible(False)
