"""What a registration leaves: the images on the fixed grid, the field, the transform, pictures, the quality record."""

from synthct.core.errors import PatientError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND
from synthct.images.grid import Volume
from synthct.images.volume import write_volume
from synthct.registration.pairwise import Registered
from synthct.registration.preview import write_preview
from synthct.registration.transform import write_transform


def write_registration(
    result: Registered,
    fixed: Volume,
    identity: dict,
    *,
    inputs: dict[str, dict],
    out_image: str,
    out_displacement: str,
    out_mask: str | None = None,
    out_fixed: str | None = None,
    out_transform: str | None = None,
    preview: str | None = None,
    qc: str | None = None,
):
    """Write each part of `result` for which register.py's option of that name gives a path.

    The moving image, the field (mm, LPS) and the mask lie on the grid of `fixed`; `identity` says in the quality record
    (`qc`) and in the pictures (`preview`) whose they are, `inputs` in the former what was read.
    """
    write_volume(result.image, out_image)
    write_volume(result.displacement, out_displacement)
    if out_mask:
        write_volume(result.mask, out_mask)
    if out_fixed:
        write_volume(fixed, out_fixed)
    if out_transform:
        write_transform(result.transform, out_transform)
    if preview:
        images = fixed, result.before, result.image, result.mask.array
        write_preview(preview, *images, apart=result.apart, about=identity)
    if qc:
        write_json(qc, plain({KIND: "registration", **identity, "inputs": inputs, **result.quality}))


def write_failure(qc: str, identity: dict, fault: PatientError):
    """The quality record of a pair that could not be registered, for curate.py."""
    write_json(qc, {KIND: "registration", **identity, "failed": str(fault)})
