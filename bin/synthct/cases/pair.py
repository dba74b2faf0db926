"""A training case from the files of one patient."""

from collections.abc import Callable

import numpy as np

from synthct.cases.intensity import measure
from synthct.cases.store import write_case
from synthct.core import presets
from synthct.core.errors import PatientError
from synthct.images.checks import check_body
from synthct.images.contours import FILLED, filled
from synthct.images.orientation import to_lps
from synthct.images.volume import read_mask, read_volume


def make_case(out, *, image, ct, mask, modality: str, rules: dict, labels: dict, warn: Callable[[str], None]) -> dict:
    """Read image, CT (None: a case to predict, not to train on) and mask from paths and write the case directory `out`.

    `rules` is the section ``preprocessing``, `labels` the case's patient, region, center and arm; `warn` hears what was
    mended. Returns the case's record, as `write_case`. Raises `PatientError` for a pair that cannot be used.
    """
    volume = read_volume(image, kind=modality)
    body, was_contour = filled(read_mask(mask, volume.grid))
    if was_contour:
        warn(f"mask {mask} {FILLED}")
    target = read_volume(ct, "CT", "ct") if ct else None
    if target is not None and (difference := target.grid.differs_from(volume.grid)):
        raise PatientError(f"CT {ct}: another grid than the image ({difference})")
    inside = body.array > 0
    if target is not None:
        if np.array_equal(volume.array, target.array):
            raise PatientError(f"CT {ct}: the same voxels as the image {image}, expected two images of one patient")
        check_body(inside, target, "ct", f"mask {mask}", f"CT {ct}")
    check_body(inside, volume, modality, f"mask {mask}", f"image {image}")
    rules = presets.for_region(rules, labels["region"])
    _check_contrast(volume.array[inside], modality, rules, image)
    return write_case(
        out,
        image=to_lps(volume),
        mask=to_lps(body),
        ct=to_lps(target) if target else None,
        modality=modality,
        rules=rules,
        labels=labels,
    )


def _check_contrast(values: np.ndarray, modality: str, rules: dict, image):
    """Refuse an image that is constant inside its mask before resampling gives it an edge."""
    try:
        measure(values, modality, rules)
    except PatientError as fault:
        raise PatientError(f"{image}: {fault}") from None
