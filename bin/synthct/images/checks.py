"""What every volume must be before anything is computed with it, whichever reader it came through.

The grid: finite, spacing above zero and in millimetres, axes at right angles. The values: finite, and such as the
computations that follow can carry, by what the volume is (`KINDS`). Each rule stands here once and says its own line.
"""

import numpy as np

from synthct.core.errors import PatientError
from synthct.images.grid import Grid, Volume, numbers

KINDS = ("ct", "sct", "cbct", "mr", "labels", "")  # sct: a network's, which may be bad; "": of unknown modality
AIR = -1024.0  # HU: less is padding of a scanner's circle or a no-data value, and means air (MR: no signal)
LOWEST_CT = -200.0  # HU: every CT shows air, or fat and lung at least; without any its intercept was lost
FEW = 1e-3  # part of the measured voxels that a stray value or a seed of metal may make up
CONTRAST = 10.0  # HU: 98 % of what a CT measured spread further; less was scaled or is one value
DENSE, DENSE_SHARE = 600.0, 0.15  # HU, part: bone and metal are at most 5 % of 42 CTs; without its intercept, the body
NEAR_WATER, WATER_SHARE = (-100.0, 150.0), 0.05  # HU, part: where air lies in a CT whose intercept was lost
FAR_BELOW = -1500.0  # HU: air's own noise ends above; what lies below and is no padding was never measured
RIM = 0.05  # part of the voxels: an interpolated edge of the padding is less
PADDING_SHARE = 0.05  # a value that holds so much of what lies far below is padding
AIR_INSIDE = {"ct": -500.0, "sct": -500.0, "cbct": -800.0}  # HU: a body's median is fat or muscle; CBCT is off by 100s
NO_LUNG = -950.0  # HU: below the median of any lung, emphysema too, and above that of air
DARK_INSIDE = 0.03  # of an MR's 99th percentile: 32 bodies have a median of 0.25 and more, their air 0.09 at most
SMALLEST_BODY = 1000.0  # mm³
MOST_MASK_VALUES = 32  # different ones; a soft mask stored as integers has more
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
    """`volume` (z, y, x) as one of `KINDS`: padding made air (ct, sct, cbct) or zero (mr), labels made whole numbers.

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
    stored = _sample(volume.array).copy()
    _check_far_below(stored, kind, name)
    array, low, high = _padding_made_air(volume.array, kind, in_place and volume.array.flags.writeable)
    _check_values(array, low, high, kind, name)
    if kind == "ct":
        _check_hu(stored, name)
    return Volume(array, volume.grid)


def air_for_padding(array: np.ndarray, kind: str = "ct") -> np.ndarray:
    """`array` without values below `AIR`: `AIR` in a CT, sCT or CBCT, 0 in an MR; the same object where it has none.

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
        if low < AIR and kind in ("ct", "sct", "cbct", "mr"):
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
    if kind in ("ct", "sct") and low > LOWEST_CT:
        raise PatientError(
            f"{name}: no voxel below {LOWEST_CT:g} HU (lowest {low:g}), expected air in a CT; was its rescale "
            "intercept (-1024) lost, or is it another image?"
        )
    limit = HIGHEST_CT if kind in ("ct", "sct") else LARGEST
    if high > limit:
        raise PatientError(f"{name}: values up to {high:g}, expected at most {limit:g}")
    sample = _sample(array)
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


def _sample(array: np.ndarray) -> np.ndarray:
    return array.ravel()[:: max(1, array.size // 200_000)]


def _check_far_below(sample: np.ndarray, kind: str, name: str):
    """Refuse values far below air that are no padding, which is one value, or two: they would all become air."""
    far = np.rint(sample[sample < FAR_BELOW])
    if far.size <= RIM * sample.size:
        return
    _, counts = np.unique(far, return_counts=True)
    odd = int(far.size - counts[counts >= PADDING_SHARE * far.size].sum())
    if odd > RIM * sample.size:
        cause = "unsigned values written as signed" if kind == "mr" else "its rescale intercept applied twice"
        raise PatientError(
            f"{name}: {odd / sample.size:.0%} of its voxels lie below {FAR_BELOW:g} and are not one padding value, "
            f"expected at most {RIM:.0%}; {'were' if kind == 'mr' else 'was'} {cause}?"
        )


def why_no_hu(values: np.ndarray) -> str:
    """Why the measured ones of `values` (padding left out) can be no HU of a body, or "": they have no contrast."""
    if not values.size:
        return ""
    measured = values[values > AIR]
    if not measured.size:
        return f"constant, no voxel above {AIR:g} HU, expected tissue contrast"
    low, high = np.percentile(_sample(measured), [1, 99])
    if high - low >= CONTRAST:
        return ""
    degree = "nearly constant" if high > low else "constant"
    return (
        f"{degree}, {low:g} to {high:g} HU in 98 % of what is not padding, expected tissue contrast of {CONTRAST:g} HU "
        "and more; were its values scaled?"
    )


def _check_hu(sample: np.ndarray, name: str):
    """Refuse a CT whose measured values (padding left out) are no HU: without contrast, or with air at 0."""
    if why := why_no_hu(sample):
        raise PatientError(f"{name}: {why}")
    measured = sample[sample > AIR]
    dense = float(np.mean(measured > DENSE))
    water = float(np.mean((measured > NEAR_WATER[0]) & (measured < NEAR_WATER[1])))
    if np.mean(measured < LOWEST_CT) <= FEW and dense >= DENSE_SHARE and water >= WATER_SHARE:
        raise PatientError(
            f"{name}: without its padding practically no voxel below {LOWEST_CT:g} HU, and {dense:.0%} above "
            f"{DENSE:g} HU, expected air in a CT and at most {DENSE_SHARE:.0%}; was its rescale intercept (-1024) lost?"
        )


def inside_of(labels: np.ndarray, name: str) -> np.ndarray:
    """Where a mask (0 and 1, 0 and 255, or a few labels) is above 0; a soft one, with values between, is refused."""
    if (many := len(np.unique(_sample(labels)))) > MOST_MASK_VALUES:
        raise PatientError(
            f"{name}: {many} different values in a sample, expected 0 and 1 (at most {MOST_MASK_VALUES} labels); "
            "is it a soft mask?"
        )
    return labels > 0


def check_body(inside: np.ndarray, image: Volume, kind: str, name: str, image_name: str, seen=None, part=False):
    """Refuse a mask that is no body in `image`, a checked volume of `kind`: a few voxels, or mostly air.

    `inside` and `seen` (where the image has values; None: everywhere) are bool arrays of the image's shape. A CT whose
    tissue lies at 1000 HU is refused by its own name. Where a `part` of the body will do, that part may be the lungs.
    """
    volume = int(inside.sum()) * float(np.prod(image.grid.spacing))
    if volume < SMALLEST_BODY:
        raise PatientError(
            f"{name}: {volume / 1000:.2g} cm³ ({int(inside.sum())} voxels), expected a body of at least "
            f"{SMALLEST_BODY / 1000:g} cm³"
        )
    values = image.array[inside if seen is None else inside & seen]
    if not values.size:
        return
    middle = float(np.median(_sample(values)))
    if kind in AIR_INSIDE and middle < (NO_LUNG if part else AIR_INSIDE[kind]):
        raise PatientError(
            f"{name}: most of it is air ({middle:.0f} HU in the middle), expected the body; is it turned inside "
            f"out, or was the rescale intercept of {image_name} applied twice?"
        )
    if kind == "ct" and middle > DENSE:
        raise PatientError(
            f"{image_name}: median {middle:.0f} HU inside {name}, expected tissue below {DENSE:g} HU; was its rescale "
            "intercept (-1024) lost?"
        )
    if kind == "mr":
        dark, bright = map(float, np.percentile(_sample(image.array), (1, 99)))  # dark: below 0 once it is normalised
        if middle - dark < DARK_INSIDE * (bright - dark):
            raise PatientError(
                f"{name}: most of it is without signal (median {middle:g}, the image's 99th percentile {bright:g}), "
                "expected the body; is it turned inside out?"
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
    sample = _sample(array)
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
