"""What every volume must be before anything is computed with it, whichever reader it came through.

The grid: finite, spacing above zero and in millimetres, axes at right angles. The values: finite, and such as the
computations that follow can carry, by what the volume is (`KINDS`). Each rule stands here once and says its own line.
"""

import numpy as np

from synthct.core.errors import PatientError
from synthct.images.grid import Grid, Volume, numbers

KINDS = ("ct", "cbct", "mr", "labels", "")  # "" is an image of unknown modality
AIR = -1024.0  # HU: less is padding of a scanner's circle or a no-data value, and means air (MR: no signal)
LOWEST_CT = -200.0  # HU: every CT shows air, or fat and lung at least; without any its intercept was lost
HIGHEST_CT = 65535.0  # HU: what 16 bits hold; metal reads up to 30 710
LARGEST = 1e7  # arbitrary units: beyond stand no-data values
HOT = 100.0  # times the 99.9th percentile: a voxel so bright leaves everything else a handful of grey levels
HU_LIKE = -500.0  # the darkest 2 % of an MR do not lie below
SPACING = (0.01, 100.0)  # mm: outside, the unit is another (metres, micrometres, indices)
SQUARE = 5e-3  # largest difference of direction · directionᵀ from the unit matrix
MOST_LABELS = 256  # different ones; an image has more
SWAPPED = 2.0  # times rougher than with its bytes the other way round: real images are 0.1 to 0.4 times as rough
WHOLE = 0.1  # labels may be off their whole numbers by so much: a slope that was rounded


def checked(volume: Volume, path, what: str, kind: str = "") -> Volume:
    """`volume` (z, y, x) as one of `KINDS`: with padding made air (ct, cbct) or zero (mr), labels made whole numbers.

    Raises `PatientError`, which names `what` and `path` and the rule, for a volume that nothing can be computed with.
    """
    name = f"{what} {path}"
    check_grid(volume.grid, name)
    array = volume.array
    if array.ndim == 3 and min(array.shape) < 2:
        raise PatientError(f"{name}: size {numbers(volume.grid.size)}, expected a 3-D volume of several slices")
    if not (np.issubdtype(array.dtype, np.integer) or np.issubdtype(array.dtype, np.floating)):
        raise PatientError(f"{name}: voxels of type {array.dtype}, expected numbers")
    if np.issubdtype(array.dtype, np.floating):
        low, high = float(array.min()), float(array.max())  # NaN goes through both
        if not (np.isfinite(low) and np.isfinite(high)):
            odd = int(array.size - np.isfinite(array).sum())
            raise PatientError(f"{name}: {odd} voxels are NaN or infinite, expected numbers")
    return valued(volume, name, kind, in_place=True)


def valued(volume: Volume, name: str, kind: str, in_place: bool = False) -> Volume:
    """The part of `checked` that looks at values, for a volume whose kind is known only after it was read.

    `in_place` may change the array that was given: one that a reader has just made.
    """
    if not kind:
        return volume
    if kind == "labels":
        return Volume(_labels(volume.array, name), volume.grid)
    _check_bytes(volume.array, name)
    array, low, high = _padding_made_air(volume.array, kind, in_place and volume.array.flags.writeable)
    _check_values(array, low, high, kind, name)
    return Volume(array, volume.grid)


def air_for_padding(array: np.ndarray, kind: str = "ct") -> np.ndarray:
    """`array` without values below `AIR`: they become `AIR` in a CT or CBCT, 0 in an MR; the same object without any.

    Scanners fill the corners beyond their circle with -2000 or -3024, other tools with -32768 or -3.4e38: numbers that
    are no measurements, and with which every minimum, mean and threshold is another.
    """
    return _padding_made_air(array, kind, False)[0]


def _padding_made_air(array: np.ndarray, kind: str, in_place: bool) -> tuple[np.ndarray, float, float]:
    """`air_for_padding`, in the array itself where that is asked, with the result's lowest and highest value.

    Plane by plane: a plane stays in the processor's cache for its minimum, its maximum and what lies between.
    """
    if not array.size:
        return array, np.inf, -np.inf
    result, lows, highs = array, [], []
    for number in range(len(array)) if array.ndim > 1 else (slice(None),):
        low = array[number].min()
        if low < AIR and kind in ("ct", "cbct", "mr"):
            if result is array and not in_place:
                result = array.copy()
            plane = result[number]
            if kind == "mr":
                plane[plane < AIR] = 0
                low = plane.min()
            else:
                np.maximum(plane, array.dtype.type(AIR), out=plane)
                low = AIR
        lows.append(low)
        highs.append(result[number].max())
    return result, float(min(lows)), float(max(highs))


def check_grid(grid: Grid, name: str):
    """The part of `checked` that looks at where a volume lies."""
    for key in ("spacing", "origin", "direction"):
        if not np.isfinite(getattr(grid, key)).all():
            raise PatientError(f"{name}: {key} {numbers(getattr(grid, key))}, expected numbers")
    if min(grid.spacing) < SPACING[0] or max(grid.spacing) > SPACING[1]:
        raise PatientError(
            f"{name}: spacing {numbers(grid.spacing)} mm, expected {SPACING[0]:g} to {SPACING[1]:g} mm; "
            "is it in another unit?"
        )
    direction = np.array(grid.direction).reshape(3, 3)
    if np.abs(direction @ direction.T - np.eye(3)).max() > SQUARE:
        raise PatientError(f"{name}: direction {numbers(grid.direction)}, expected axes at right angles, of length 1")


def _check_values(array: np.ndarray, low: float, high: float, kind: str, name: str):
    if kind == "ct" and low > LOWEST_CT:
        raise PatientError(
            f"{name}: no voxel below {LOWEST_CT:g} HU (lowest {low:g}), expected air in a CT; was its rescale "
            "intercept (-1024) lost, or is it another image?"
        )
    limit = HIGHEST_CT if kind == "ct" else LARGEST
    if high > limit:
        raise PatientError(f"{name}: values up to {high:g}, expected at most {limit:g}")
    sample = array.ravel()[:: max(1, array.size // 200_000)]
    bright = float(np.percentile(sample, 99.9))
    if 0 < HOT * bright < high:
        raise PatientError(
            f"{name}: brightest voxel {high:g}, {high / bright:.0f} times the 99.9th percentile ({bright:g}), "
            f"expected at most {HOT:g} times"
        )
    if kind == "mr" and (dark := float(np.percentile(sample, 2))) <= HU_LIKE:
        raise PatientError(
            f"{name}: a part of it is at {dark:g}, which looks like HU, expected MR (air near 0); is it the CT, or "
            "padded as one?"
        )


def _check_bytes(array: np.ndarray, name: str):
    """Refuse 16-bit values whose bytes were written in another order than the header says: smooth only when swapped."""
    if array.dtype.kind not in "iu" or array.dtype.itemsize != 2:
        return
    middle = array[array.shape[0] // 2]
    rough = [_roughness(part) for part in (middle, middle.byteswap())]
    if rough[0] > SWAPPED * rough[1] > 0:
        raise PatientError(f"{name}: bytes in the other order than its header says (smooth only when swapped)")


def _roughness(plane: np.ndarray) -> float:
    """Difference of neighbours, of the plane's own spread: near 1 for noise, far below for anatomy."""
    plane = plane.astype(np.float32)
    spread = float(plane.std())
    return float(np.abs(np.diff(plane, axis=1)).mean()) / spread if spread else 0.0


def _labels(array: np.ndarray, name: str) -> np.ndarray:
    sample = array.ravel()[:: max(1, array.size // 200_000)]
    if (many := len(np.unique(sample))) > MOST_LABELS:
        raise PatientError(f"{name}: {many} different values in a sample, expected labels; is it an image?")
    if np.issubdtype(array.dtype, np.integer):
        return array
    whole = np.rint(array)
    off = np.abs(array - whole)
    if off.max() > WHOLE:
        odd = float(array.ravel()[off.argmax()])
        raise PatientError(f"{name}: holds {odd:g}, expected whole numbers (labels)")
    if np.abs(whole).max() > 2**31 - 1:
        raise PatientError(f"{name}: labels up to {np.abs(whole).max():g}, expected whole numbers of 32 bits")
    return whole.astype(np.int32)
