"""What an image and its synthetic CT look like, in a few numbers that are compared with those of known patients.

All are measured inside the mask, axes in LPS order, on the grid that the networks work on; intensities are those that
the networks see (normalised), so that a scanner's scale does not matter.
"""

from dataclasses import dataclass

import numpy as np

from synthct.images.grid import Grid, Volume


@dataclass(frozen=True)
class Feature:
    """`words` say what is off when a value lies `low` or high of what was seen; `floor`: no range is narrower."""

    low: str
    high: str
    floor: float
    unit: str = ""


INPUT = {
    "slice_mm": Feature("slices thinner than seen", "slices too thick", 1.0, "mm"),
    "pixel_mm": Feature("pixels finer than seen", "pixels too coarse", 0.5, "mm"),
    "length_mm": Feature("body cut short along its axis", "body longer than seen", 60.0, "mm"),
    "width_mm": Feature("body narrower than seen, truncated or another region", "body wider than seen", 80.0, "mm"),
    "depth_mm": Feature("body flatter than seen, truncated or another region", "body deeper than seen", 60.0, "mm"),
    "cut": Feature("", "body truncated by the field of view", 0.08),
    "taper": Feature("body tapers the other way, upside down?", "body tapers the other way, upside down?", 0.3),
    "dark": Feature("darkest tissue off, contrast out of range", "darkest tissue off, contrast out of range", 0.5),
    "middle": Feature("contrast out of range", "contrast out of range", 0.4),
    "bright": Feature(
        "brightest tissue off, contrast out of range", "brightest tissue off, contrast out of range", 0.6
    ),
    "skew": Feature("contrast out of range, another sequence?", "contrast out of range, another sequence?", 0.6),
    "peak": Feature("", "single voxels far too bright, metal?", 2.0),
    "noise": Feature("", "noisier than seen", 0.02),
    "detail": Feature("less detail than seen, blurred?", "", 0.3),  # decades of `noise`: a blur is a factor, not a step
    "shading": Feature("", "intensity drifts across the body (bias field)", 0.10),
    "back": Feature("dark and bright lie the wrong way round front to back", "the same, front to back", 0.15),
    "outside": Feature("", "bright outside the body, contrast inverted?", 0.5),
    "void": Feature("", "holes without signal within the body, metal?", 0.01),
}
LIKENESS = {
    "symmetry": Feature("left and right differ, truncated or lying askew?", "", 0.1),
    "likeness": Feature("looks unlike the known patients, truncated, turned or another region?", "", 0.15),
}
OUTPUT = {
    "air": Feature("", "too much air within the body", 0.03),
    "fat": Feature("less fat than seen", "more fat than seen", 0.15),
    "bone": Feature("less bone than seen", "more bone than seen", 0.04),
    "fat_hu": Feature("HU of fat too low", "HU of fat too high", 15.0, "HU"),
    "muscle_hu": Feature("HU of muscle too low", "HU of muscle too high", 15.0, "HU"),
    "bone_hu": Feature("HU of bone too low", "HU of bone too high", 150.0, "HU"),
    "bone_back": Feature("bone lies too far to the front", "bone lies too far to the back", 0.12),
}
SPREAD = {
    "spread_hu": Feature("", "the networks disagree more than with any small error", 8.0, "HU"),
    "spread_p95_hu": Feature("", "the networks disagree strongly somewhere", 25.0, "HU"),
}
ALL = INPUT | LIKENESS | OUTPUT | SPREAD
SEEN_OUTSIDE = 0.02  # of the image outside the mask: with less nothing is said of it
SMALL = 12  # voxels along each axis of a thumbnail
TURNS = {"upside down": 0, "front to back": 1}  # axes (z, y, x) that a body is not symmetrical along


def of_input(x: np.ndarray, inside: np.ndarray, grid: Grid, source: Grid) -> dict[str, float]:
    """`x` normalised float32 (z, y, x) on `grid`, `inside` bool; `source` is the image's own grid, in LPS order."""
    values = x[inside].astype(np.float64)
    low, dark, middle, bright, top = np.percentile(values, (1, 10, 50, 90, 99.9))
    width = max(bright - dark, 1e-6)
    box = [np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))]
    extent = [(at[-1] - at[0] + 1) * step for at, step in zip(box, grid.spacing[::-1], strict=True)]
    area = inside.sum((1, 2)).astype(np.float64)[box[0][0] : box[0][-1] + 1]
    half = max(1, len(area) // 2)
    core = inside.copy()
    for axis in (1, 2):
        for step in (1, -1):
            core &= np.roll(inside, step, axis)
    smooth = sum(np.roll(x, step, axis) for axis in (1, 2) for step in (1, -1)) / 4
    rough = np.abs(x - smooth)[core] if core.any() else np.zeros(1)
    noise = float(np.median(rough) / width)
    deep = _deep(inside, grid)
    clipped = np.clip(x, dark, bright)
    y = np.arange(x.shape[1], dtype=np.float64)[None, :, None]
    weight = np.where(inside, clipped - dark, 0)
    centre = (np.where(inside, y, 0)).sum() / inside.sum()
    return {
        "slice_mm": float(source.spacing[2]),
        "pixel_mm": float(max(source.spacing[:2])),
        "length_mm": float(extent[0]),
        "width_mm": float(extent[2]),
        "depth_mm": float(extent[1]),
        "cut": _cut(inside),
        "taper": float((area[-half:].sum() - area[:half].sum()) / area.sum()),
        "dark": float(dark),
        "middle": float((middle - dark) / width),
        "bright": float(bright),
        "skew": float((((values - values.mean()) / max(values.std(), 1e-6)) ** 3).clip(-50, 50).mean()),
        "peak": float((top - middle) / width),
        "noise": noise,
        "detail": detail_of(noise),
        "shading": _shading(x, inside) / width,
        "back": float(((weight * y).sum() / max(weight.sum(), 1e-6) - centre) * grid.spacing[1] / extent[1]),
        "void": float((x[deep] <= low).mean() if deep.any() else 0.0),
    }


def detail_of(noise: float) -> float:
    """`noise` in decades."""
    return float(np.log10(max(noise, 1e-5)))


def of_output(sct: np.ndarray, inside: np.ndarray, grid: Grid) -> dict[str, float]:
    """`sct` in HU (z, y, x), `inside` bool."""
    values = sct[inside].astype(np.float64)
    fat, muscle, bone = (values > -200) & (values < -20), (values >= -20) & (values < 150), values >= 200
    rows = np.flatnonzero(inside.any((0, 2)))
    y = np.broadcast_to(np.arange(sct.shape[1])[None, :, None], sct.shape)
    hard = inside & (sct >= 200)
    back = (y[hard].mean() - y[inside].mean()) / (rows[-1] - rows[0] + 1) if hard.any() else 0.0
    return {
        "air": float((values < -400).mean()),
        "fat": float(fat.mean()),
        "bone": float(bone.mean()),
        "fat_hu": float(np.median(values[fat])) if fat.any() else -100.0,
        "muscle_hu": float(np.median(values[muscle])) if muscle.any() else 40.0,
        "bone_hu": float(np.percentile(values, 99)),
        "bone_back": float(back),
    }


def of_spread(spread: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """The ensemble's standard deviation (HU, z, y, x)."""
    values = spread[inside]
    return {"spread_hu": float(values.mean(dtype=np.float64)), "spread_p95_hu": float(np.percentile(values, 95))}


def _cut(inside: np.ndarray) -> float:
    """The part of the body's outline, over all slices, that lies on the border of the plane."""
    on_border = inside[:, [0, -1], :].sum() + inside[:, 1:-1, [0, -1]].sum()
    rim = inside.copy()
    rim[:, 1:-1, 1:-1] &= ~(inside[:, :-2, 1:-1] & inside[:, 2:, 1:-1] & inside[:, 1:-1, :-2] & inside[:, 1:-1, 2:])
    return float(on_border / max(1, rim.sum()))


def _shading(x: np.ndarray, inside: np.ndarray) -> float:
    """How far the median drifts across the body: the largest minus the smallest of nine parts of the plane."""
    rows, columns = (np.flatnonzero(inside.any(axis)) for axis in ((0, 2), (0, 1)))
    medians = []
    for ys in np.array_split(rows, 3):
        for xs in np.array_split(columns, 3):
            block = (slice(None), slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1)) if len(ys) and len(xs) else None
            hit = inside[block] if block else np.zeros(1, bool)
            if hit.mean() > 0.3:
                medians.append(float(np.median(x[block][hit])))
    return max(medians) - min(medians) if medians else 0.0


def _deep(inside: np.ndarray, grid: Grid) -> np.ndarray:
    """The body without about 20 mm of its rim within slices."""
    deep = inside.copy()
    for axis, step in ((1, grid.spacing[1]), (2, grid.spacing[0])):
        reach = max(1, round(20 / step))
        for by in (reach, -reach):
            deep &= np.roll(inside, by, axis)
    return deep


def thumbnail(x: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """The body's bounding box as (`SMALL`, `SMALL`, `SMALL`) means, z y x: `x` scaled from its 5th to its 95th
    percentile inside to 0.5..1.5, and 0 outside."""
    low, high = np.percentile(x[inside], (5, 95))
    box = tuple(
        slice(at[0], at[-1] + 1) for at in (np.flatnonzero(inside.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1)))
    )
    small = np.where(inside, np.clip((x - low) / max(high - low, 1e-6), 0, 1) + 0.5, 0)[box]
    for axis in range(3):
        small = np.moveaxis(np.tensordot(_shares(small.shape[axis]), small, (1, axis)), 0, axis)
    return small.astype(np.float32)


def _shares(count: int) -> np.ndarray:
    """(`SMALL`, count): how much of each of `count` voxels in a row makes up each of `SMALL` equal parts of it."""
    edges, parts = np.arange(count + 1) / count, np.arange(SMALL + 1) / SMALL
    low, high = np.maximum(edges[:-1], parts[:-1, None]), np.minimum(edges[1:], parts[1:, None])
    return np.clip(high - low, 0, None) * SMALL


def alike(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two thumbnails, 0 where one is flat."""
    a, b = a - a.mean(), b - b.mean()
    norm = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / norm if norm > 1e-9 else 0.0


def righter(small: np.ndarray, mean: np.ndarray, axis: int) -> float:
    """How much more a thumbnail resembles the known patients' `mean` as it is than turned over along `axis`."""
    return alike(small, mean) - alike(np.flip(small, axis), mean)


def volume_features(work: Volume, inside: np.ndarray, rule, source: Grid) -> dict[str, float]:
    """`of_input` of a raw image on the working grid and its normalisation rule, and what lies outside the mask."""
    return of_input(rule(work.array, inside), inside, work.grid, source) | of_outside(work.array, inside)


def of_outside(raw: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Where the middle of what lies outside the mask stands between dark (0) and bright (1) tissue; {} where hardly
    anything does. Air is dark in every modality: nearly 0 or below, and about 1 in a negative."""
    if (~inside).mean() < SEEN_OUTSIDE:
        return {}
    dark, bright = np.percentile(raw[inside], (10, 90))
    return {"outside": float((np.median(raw[~inside]) - dark) / max(bright - dark, 1e-6))}
