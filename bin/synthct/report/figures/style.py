"""How every figure looks, and how it becomes bytes."""

import functools
import io

import numpy as np
from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from synthct.study.arms import colour, marker

COLOUR_WORDS = {
    "#0072B2": "blue",
    "#D55E00": "vermilion",
    "#6E6E6E": "grey",
    "#009E73": "green",
    "#CC79A7": "pink",
    "#E69F00": "orange",
    "#56B4E9": "light blue",
    "#000000": "black",
}
MARKER_WORDS = {
    "o": "circles",
    "s": "squares",
    "D": "diamonds",
    "^": "triangles",
    "v": "triangles on their tips",
    "P": "crosses",
    "X": "slanted crosses",
    "p": "pentagons",
    "h": "hexagons",
    "<": "triangles to the left",
    ">": "triangles to the right",
}
LINES = ("-", "--", ":", "-.")
INK, SOFT, RULE = "#1c2430", "#5b6673", "#dfe4ea"
THIRD, HALF, FULL = 3.05, 4.6, 9.4  # inches; 100 of the page's pixels each
WIDE = 15  # characters of a line of an arm's name in a label
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


def in_words(arm: str, arms: list[str]) -> str:
    """How an arm's points look: "blue circles"."""
    shade, shape = COLOUR_WORDS.get(colour(arm, arms), ""), MARKER_WORDS.get(marker(arm, arms), "points")
    return f"{shade} {shape}".strip()


def styled(draw):
    """Decorator: `draw` runs with this style, whatever the process's own."""

    @functools.wraps(draw)
    def inside(*args, **kwargs):
        with rc_context(RC):  # type: ignore[arg-type]  # matplotlib has a type for each key
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
