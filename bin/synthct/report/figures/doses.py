"""Pictures of dose: maps of what changes between CT and synthetic CT, and dose-volume histograms."""

import zipfile

import numpy as np

from synthct.core.errors import InputError
from synthct.report.figures.style import FULL, LINES, bare, canvas, png, styled

KINDS = ("photon", "proton")
CHANGE = 10.0  # % of the prescription, colour scale of the change is ± this
TOP = 110.0  # % of the prescription, top of the dose's scale
FAINT = 5.0  # %: below, the CT shows through
WINDOW = (-300.0, 500.0)  # HU
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
DPI = 130


def load(path) -> dict[str, np.ndarray]:
    """The arrays of dose.py --slices."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile) as fault:
        raise InputError(f"dose slices {path}: cannot be read ({fault})") from None


@styled
def difference_maps(cells: list[tuple[str, dict]]) -> bytes:
    """One row a (label, slices): for each kind of beam the dose on the CT, and sCT − CT, over the CT in grey."""
    kinds = [kind for kind in KINDS if f"{kind}_ct" in cells[0][1]]
    side = FULL / max(4, 2 * len(kinds))
    tall, wide = cells[0][1]["hu"].shape
    height = min(tall / wide, 1.5) * side
    figure, axes = canvas(FULL, height * len(cells) + 0.9, len(cells), 2 * len(kinds))
    for number, (row, (label, arrays)) in enumerate(zip(axes, cells, strict=True)):
        row[0].set_ylabel(label, fontsize=9)
        for column, kind in enumerate(kinds):
            dose = 100 * arrays[f"{kind}_ct"]
            change = 100 * arrays[f"{kind}_sct"] - dose
            for axis, values, limits, colours, title, faint in (
                (row[2 * column], dose, (0, TOP), "inferno", f"{kind} dose, CT", dose < FAINT),
                (row[2 * column + 1], change, (-CHANGE, CHANGE), "RdBu_r", f"{kind}, sCT − CT", np.abs(change) < 0.5),
            ):
                bare(axis)
                axis.imshow(arrays["hu"], cmap="gray", vmin=WINDOW[0], vmax=WINDOW[1])
                picture = np.ma.masked_array(values, faint)
                shown = axis.imshow(picture, cmap=colours, vmin=limits[0], vmax=limits[1], alpha=0.75)
                axis.contour(arrays["target"], [0.5], colors="#00A000", linewidths=1)
                if number == 0:
                    axis.set_title(title, loc="center", fontsize=9)
                if number == len(cells) - 1:
                    figure.colorbar(shown, ax=axis, orientation="horizontal", shrink=0.8, label="% of prescription")
    return png(figure, DPI)


@styled
def dvh(cells: list[tuple[str, dict]]) -> bytes:
    """One panel a kind of beam and (label, record): each structure on the CT (solid) and on the sCT (dashed).

    A band lies between the lowest and highest of the ensemble's folds where each of them was planned on.
    """
    kinds = [kind for kind in KINDS if kind in cells[0][1]]
    figure, axes = canvas(FULL, 2.4 * len(cells) + 0.2, len(cells), len(kinds), sharex=True, sharey=True)
    for row, (label, record) in zip(axes, cells, strict=True):
        for axis, kind in zip(row, kinds, strict=True):
            curves = record[kind]["dvh"]
            percent = 100 * np.array(curves["dose_gy"]) / record["prescription_gy"]
            for colour, name in zip(COLOURS, [name for name in curves if name != "dose_gy"], strict=False):
                for line, image in zip(LINES, ("ct", "sct"), strict=False):
                    values = 100 * np.array(curves[name][image])
                    axis.plot(percent, values, line, color=colour, label=name if image == "ct" else None)
                if band := record[kind].get("over_members", {}).get("dvh", {}).get(name):
                    low, high = (100 * np.array(band[end]) for end in ("low", "high"))
                    axis.fill_between(percent, low, high, color=colour, alpha=0.25, linewidth=0)
            axis.set_title(f"{label}, {kind}" if len(cells) > 1 else kind)
            axis.legend(loc="lower left")
        row[0].set_ylabel("volume (%)")
    for axis in axes[-1]:
        axis.set_xlabel("dose (% of prescription)")
    return png(figure, DPI)
