"""How every figure looks, and how it becomes bytes."""

import io

import matplotlib

matplotlib.use("Agg")

import numpy as np  # noqa: E402
from matplotlib import pyplot as plt  # noqa: E402
from matplotlib.figure import Figure as Canvas  # noqa: E402

# Okabe and Ito's colours: distinct for every common colour-blindness; the markers distinguish them in grey.
COLOURS = {"impact": "#0072B2", "elastix": "#D55E00", "none": "#6E6E6E"}
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = {"impact": "o", "elastix": "s", "none": "D"}
OTHER_MARKERS = ("^", "v", "P", "X")
INK, FAINT, RULE = "#1c2430", "#66707c", "#d9dee4"

RC = {
    "font.family": "DejaVu Sans", "font.size": 9, "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 9, "axes.edgecolor": FAINT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": FAINT,
    "ytick.color": FAINT, "axes.spines.top": False, "axes.spines.right": False, "axes.linewidth": 0.7, "axes.grid": True,
    "axes.axisbelow": True, "grid.color": RULE, "grid.linewidth": 0.6, "legend.frameon": False, "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5, "ytick.labelsize": 8.5, "lines.linewidth": 1.4, "savefig.facecolor": "white", "path.sketch": None,
}
DPI = 200


def colour(arm: str, arms: list[str]) -> str:
    """An arm's colour; arms without one of their own take the others' in order."""
    return COLOURS.get(arm) or OTHERS[_place(arm, arms, COLOURS) % len(OTHERS)]


def marker(arm: str, arms: list[str]) -> str:
    """An arm's marker."""
    return MARKERS.get(arm) or OTHER_MARKERS[_place(arm, arms, MARKERS) % len(OTHER_MARKERS)]


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs) -> tuple[Canvas, np.ndarray]:
    """A figure of `width` × `height` inches and its axes (always a 2-D array)."""
    with plt.rc_context(RC):
        figure = Canvas(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def png(figure: Canvas, dpi: int = DPI) -> bytes:
    """The figure as PNG, without a date, a program's name or a version in it."""
    stream = io.BytesIO()
    with plt.rc_context(RC):
        figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None})
    return stream.getvalue()


def jitter(n: int) -> np.ndarray:
    """Offsets −1…1 for n points side by side; always the same."""
    return np.random.default_rng(1).permutation(np.linspace(-1, 1, n)) if n > 1 else np.zeros(n)


def _place(arm: str, arms: list[str], known: dict) -> int:
    unknown = [name for name in arms if name not in known]
    return unknown.index(arm) if arm in unknown else 0
