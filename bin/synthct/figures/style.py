"""How every figure looks, and how it becomes bytes."""

import functools
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

# Okabe and Ito's colours: distinct for every common colour-blindness; the markers distinguish them in grey.
COLOURS = {"impact": "#0072B2", "elastix": "#D55E00", "none": "#6E6E6E", "truth": "#009E73"}
OTHERS = ("#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = {"impact": "o", "elastix": "s", "none": "D", "truth": "^"}
OTHER_MARKERS = ("v", "P", "X", "p")
LINES = ("-", "--", ":", "-.")
INK, SOFT, RULE = "#1c2430", "#5b6673", "#dfe4ea"
THIRD, HALF, FULL = 3.05, 4.6, 9.4  # inches; 100 of the page's pixels each
DPI = 200

RC = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "text.color": INK,
    "axes.titlecolor": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.major.size": 3,
    "ytick.major.size": 0,
    "lines.linewidth": 1.4,
    "savefig.facecolor": "white",
}


def colour(arm: str, arms: list[str]) -> str:
    """An arm's colour; arms without one of their own take the others' in order."""
    return COLOURS.get(arm) or OTHERS[_place(arm, arms, COLOURS) % len(OTHERS)]


def marker(arm: str, arms: list[str]) -> str:
    """An arm's marker."""
    return MARKERS.get(arm) or OTHER_MARKERS[_place(arm, arms, MARKERS) % len(OTHER_MARKERS)]


def styled(draw):
    """Decorator: `draw` runs with this style, whatever the process's own."""

    @functools.wraps(draw)
    def inside(*args, **kwargs):
        with rc_context(RC):
            return draw(*args, **kwargs)

    return inside


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **kwargs) -> tuple[Figure, np.ndarray]:
    """A figure of `width` × `height` inches and its axes (always a 2-D array)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def png(figure: Figure, dpi: int = DPI) -> bytes:
    """The figure as PNG, without a date, a program's name or a version in it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, metadata={"Software": None}, pil_kwargs={"optimize": True})
    return stream.getvalue()


def spread(n: int) -> np.ndarray:
    """Offsets −1…1 for n points side by side; always the same."""
    return np.random.default_rng(1).permutation(np.linspace(-1, 1, n)) if n > 1 else np.zeros(n)


def bare(axis):
    """An axis for a picture: no ticks, no grid, no frame."""
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    for side in axis.spines.values():
        side.set_visible(False)


def arm_legend(figure: Figure, axis, names: dict[str, str], arms: list[str]):
    """One line above the axes: marker, colour and words of every arm."""
    handles = [
        axis.plot([], [], marker(arm, arms), color=colour(arm, arms), ms=5, label=text)[0]
        for arm, text in names.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(handles), handletextpad=0.2, columnspacing=1.2)


def _place(arm: str, arms: list[str], known: dict) -> int:
    unknown = [name for name in arms if name not in known]
    return unknown.index(arm) if arm in unknown else 0
