"""Small pictures of a patient for the report: the planes through the mask's centre, pixels made square."""

import numpy as np
from scipy import ndimage

PLANES = ("axial", "coronal", "sagittal")
LARGEST = 256  # pixels, longer side


def mid_slices(volumes: dict[str, np.ndarray], mask: np.ndarray, spacing) -> dict[str, np.ndarray]:
    """{"<plane>_<name>": (h, w)} of each volume, plus "<plane>_mask", through the centre of mass of `mask`.

    Volumes are (z, y, x) in LPS order on one grid of `spacing` (z, y, x) mm; integers come back as int16, others as
    float16 (a standard deviation in HU). Pixels are square, at most 256 along the longer side; coronal and sagittal
    planes have the head on top. An empty mask takes the volume's middle.
    """
    inside = mask > 0
    centre = [round(c) for c in ndimage.center_of_mass(inside)] if inside.any() else [n // 2 for n in mask.shape]
    result = {}
    for axis, plane in enumerate(PLANES):
        step = [spacing[i] for i in range(3) if i != axis]
        for name, volume in {**volumes, "mask": inside}.items():
            result[f"{plane}_{name}"] = _square(np.take(volume, centre[axis], axis), step, axis > 0)
    return result


def for_display(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """An input image as int16 0…1000: its 0.5 to 99.5 percentile inside the mask, so that any MR scaling is visible."""
    inside = image[mask > 0]
    low, high = np.percentile(inside if inside.size else image, (0.5, 99.5))
    scaled = np.clip((image.astype(np.float32) - np.float32(low)) / np.float32(max(high - low, 1e-6)), 0, 1)
    return np.rint(1000 * scaled).astype(np.int16)


def _square(plane: np.ndarray, step, flip: bool) -> np.ndarray:
    pixel = max(min(step), max(n * s for n, s in zip(plane.shape, step, strict=True)) / LARGEST)
    factors = [max(round(n * s / pixel), 1) / n for n, s in zip(plane.shape, step, strict=True)]
    if plane.dtype == bool:
        result = ndimage.zoom(plane.astype(np.uint8), factors, order=0)
    elif np.issubdtype(plane.dtype, np.integer):
        result = np.clip(np.rint(ndimage.zoom(plane.astype(np.float32), factors, order=1)), -32768, 32767).astype(
            np.int16
        )
    else:
        result = ndimage.zoom(plane.astype(np.float32), factors, order=1).astype(np.float16)
    return result[::-1] if flip else result
