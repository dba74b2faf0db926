"""A training case from one patient's files: what is no pair, no body or no measurement is refused by its name."""

import numpy as np
import pytest
import small_training as small

from synthct.cases.pair import make_case
from synthct.core.errors import PatientError
from synthct.core.presets import resolve
from synthct.images.checks import check_body
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume

LABELS = {"patient": "P", "region": "AB", "center": "A", "arm": "none"}


def made(place, modality="mr", **changed):
    """make_case on the made-up patient with some of image, ct and mask replaced; the line it is refused with, or ""."""
    image, ct, mask = small.pair(1)
    if modality == "cbct":
        image = ct.with_array(ct.array + np.random.default_rng(3).integers(-30, 31, ct.array.shape).astype(np.int16))
    volumes = {"image": image, "ct": ct, "mask": mask}
    for name, volume in volumes.items():
        given = changed.get(name, volume)
        write_volume(given if isinstance(given, Volume) else volume.with_array(given), place / f"{name}.mha")
    paths = {name: place / f"{name}.mha" for name in volumes}
    chosen = resolve("test", modality)["preprocessing"]
    try:
        make_case(place / "case", **paths, modality=modality, rules=chosen, labels=LABELS, warn=pytest.fail)
    except PatientError as fault:
        return str(fault).replace(f"{place}/", "")
    return ""


def test_an_image_that_is_constant_in_its_mask_is_found_before_it_is_resampled(tmp_path):
    _, _, mask = small.pair(1)
    said = made(tmp_path, image=np.where(mask.array, 300, 0).astype(np.int16))
    assert said == "image.mha: image is constant (300) inside its mask, expected tissue contrast"


@pytest.mark.parametrize("modality", ["mr", "cbct"])
def test_a_mask_of_a_few_voxels_or_of_air_is_refused(tmp_path, modality):
    _, _, mask = small.pair(1)
    few = np.zeros_like(mask.array)
    few[3, 20, 10:20] = 1
    assert made(tmp_path, modality) == ""
    assert "mask mask.mha: 0.03 cm³ (10 voxels)" in made(tmp_path, modality, mask=few)
    assert "most of it is air (-99" in made(tmp_path, modality, mask=1 - mask.array)


def test_a_mask_without_a_ct_is_judged_by_its_image(tmp_path):
    """Where there is no CT, CBCT's values and MR's signal tell air from body."""
    mr, ct, mask = small.pair(1)
    body, air = mask.array > 0, (ct.array < -500)
    for image, kind in ((mr.with_array(np.where(air, 5, mr.array)), "mr"), (ct, "cbct")):
        check_body(body, image, kind, "mask m", "image i")
        with pytest.raises(PatientError, match="mask m: most of it is"):
            check_body(air, image, kind, "mask m", "image i")


def test_lungs_may_be_scored_and_air_may_not():
    _, ct, mask = small.pair(1)
    lungs = ct.with_array(np.where(mask.array > 0, -860, ct.array).astype(np.int16))
    inside = mask.array > 0
    check_body(inside, lungs, "ct", "mask m", "CT c", part=True)
    with pytest.raises(PatientError, match="most of it is air"):
        check_body(inside, lungs, "ct", "mask m", "CT c")
    with pytest.raises(PatientError, match="most of it is air"):
        check_body(~inside, ct, "ct", "mask m", "CT c", part=True)


def test_a_ct_whose_tissue_lies_at_1000_is_refused_although_masked(tmp_path):
    _, ct, mask = small.pair(1)
    masked = np.where(mask.array, ct.array, -1024).astype(np.int16)
    assert made(tmp_path, ct=masked) == "", "as challenges give their CTs"
    said = made(tmp_path, ct=np.where(mask.array, ct.array + 1024, -1024).astype(np.int16))
    assert "CT ct.mha: median 10" in said and "rescale intercept (-1024) lost" in said


def test_a_cbct_whose_intercept_was_applied_twice_is_refused(tmp_path):
    _, ct, mask = small.pair(1)
    noise = np.random.default_rng(0).normal(0, 8, ct.array.shape)
    for array in (ct.array - 1024, np.where(mask.array, ct.array - 1000 + noise, -2000)):
        assert "applied twice" in made(tmp_path, "cbct", image=array.astype(np.int16))


def test_the_ct_is_not_its_own_image(tmp_path):
    _, ct, _ = small.pair(1)
    assert "CT ct.mha: the same voxels as the image image.mha" in made(tmp_path, "cbct", image=ct)


def test_a_mask_stored_in_another_order_is_turned_as_the_image_is(tmp_path):
    _, _, mask = small.pair(1)
    ends = np.array(mask.grid.origin) + mask.grid.matrix @ (np.array(mask.grid.size) - 1)
    origin = (float(ends[0]), float(ends[1]), mask.grid.origin[2])
    ras = Grid(mask.grid.size, mask.grid.spacing, origin, (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    array = mask.array.copy()
    array[:, 20:, :9] = 0  # not its own mirror image
    assert made(tmp_path, mask=array) == ""
    straight = (tmp_path / "case" / "image.npy").read_bytes()
    assert made(tmp_path, mask=Volume(np.ascontiguousarray(array[:, ::-1, ::-1]), ras)) == ""
    assert (tmp_path / "case" / "image.npy").read_bytes() == straight
    away = Grid(ras.size, ras.spacing, (origin[0] + 1, *origin[1:]), ras.direction)
    assert "another grid than its image" in made(tmp_path, mask=Volume(array, away))
