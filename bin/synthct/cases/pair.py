"""A training case from the files of one patient."""

from collections.abc import Callable

import numpy as np

from synthct.cases.store import write_case
from synthct.core import presets
from synthct.core.errors import PatientError
from synthct.images.contours import FILLED, filled
from synthct.images.orientation import to_lps
from synthct.images.volume import read_mask, read_volume

AIR_INSIDE = -500.0  # HU: the median in a body is fat or muscle, also where lungs are in it


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
    if target is not None and (hu := float(np.median(target.array[body.array > 0]))) < AIR_INSIDE:
        raise PatientError(f"mask {mask}: most of it is air ({hu:.0f} HU in the middle), expected the body")
    return write_case(
        out,
        image=to_lps(volume),
        mask=to_lps(body),
        ct=to_lps(target) if target else None,
        modality=modality,
        rules=presets.for_region(rules, labels["region"]),
        labels=labels,
    )
