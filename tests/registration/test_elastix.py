"""Elastix, the baseline: what it finds, and at what price it starts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import registration_phantom as phantom
import SimpleITK as sitk
from registration_phantom import GRID

from synthct.images.grid import Grid, Volume
from synthct.registration import elastix, pairwise

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def case():
    return phantom.pair()


def test_elastix_beats_doing_nothing(case):
    fixed, moving, mask, truth = case
    section = phantom.section(
        "cbct",
        "registration.elastix.erode_mask=false",  # the phantom is too small to erode
        "registration.elastix.sample_step=[2, 2, 2]",
    )
    result = pairwise.register(fixed, moving, mask, section, method="elastix", modality="cbct")
    assert phantom.error(result.transform, truth, mask) < 0.9 * phantom.error(sitk.Transform(), truth, mask)


def test_elastix_finds_a_rigid_start_where_air_and_body_cancel(case):
    """Its start is a centre of gravity, and the HU of a closely cropped CT add up to nothing."""
    _, moving, _, _ = case
    crop = moving.array[:, 8:-8, 6:-6].astype(np.float32)
    crop += -crop.mean() * (crop > -900) / (crop > -900).mean()  # body just heavy enough to balance the air
    crop[:, :, 0] -= 3.0  # all but balanced: the centre of gravity of these HU lies outside the image
    still = Grid(crop.shape[::-1], GRID.spacing, (0.0, 0.0, 0.0))
    fixed = Volume(np.where(crop > -900, 400 - crop / 2, 0).astype(np.int16), still)
    away = Grid(crop.shape[::-1], GRID.spacing, (6.0, -5.0, 3.0))
    mask = fixed.with_array(np.ones(crop.shape, np.uint8))
    fewer = (
        "registration.elastix.iterations=[50, 30, 20]",
        "registration.elastix.rigid.iterations=[200, 200, 100, 100]",
    )
    section = phantom.section("mr", "registration.elastix.sample_step=[2, 2, 2]", *fewer)
    found = pairwise.register(
        fixed, Volume(crop, away), mask, section, method="elastix", modality="mr", moving_is="ct", rigid=True
    )
    inside = mask.with_array((crop > -900).astype(np.uint8))
    points = (np.argwhere(inside.array > 0)[::53][:, ::-1] @ fixed.grid.matrix.T).tolist()
    off = [np.linalg.norm(np.subtract(found.transform.TransformPoint(p), np.add(p, (6.0, -5.0, 3.0)))) for p in points]
    assert np.mean(off) < 2.5


def test_a_small_image_gets_enough_samples_for_a_rigid_start_and_a_large_one_the_organisers_numbers():
    rules = phantom.section("mr")["elastix"]["rigid"]
    large = elastix.rigid_map(rules, 1, (512, 400, 80))
    assert large["ImagePyramidSchedule"] == [str(f) for f in (8, 4, 2, 1) for _ in range(3)]
    assert large["SampleGridSpacing"] == [str(s) for s in (4, 4, 4, 2) for _ in range(3)]
    small = elastix.rigid_map(rules, 1, (75, 55, 25))
    factors, steps = ([int(v) for v in small[key][::3]] for key in ("ImagePyramidSchedule", "SampleGridSpacing"))
    for factor, step in zip(factors, steps, strict=True):
        assert np.prod([n // (factor * step) for n in (75, 55, 25)]) >= 200


def test_it_starts_with_the_modules_it_takes_and_no_others(tmp_path):
    """On turned axes, where a lost direction would show; through `import itk` it would load 1,100 modules first."""
    code = """
import sys
from pathlib import Path
import numpy as np
from synthct.images.grid import Grid, Volume
from synthct.registration import itk_elastix
grid = Grid((28, 24, 20), (2.0, 1.0, 1.5), (3.0, -4.0, 5.0), (0, 1, 0, -1, 0, 0, 0, 0, 1))
z, y, x = np.indices(grid.shape)
blob = lambda dx, dy: Volume(np.exp(-((x - 13 - dx) ** 2 + (y - 12 - dy) ** 2 + (z - 9) ** 2) / 30), grid)
ask = {
    "Transform": ["TranslationTransform"],
    "Registration": ["MultiResolutionRegistration"],
    "Metric": ["AdvancedMeanSquares"],
    "Optimizer": ["AdaptiveStochasticGradientDescent"],
    "NumberOfResolutions": ["1"],
    "MaximumNumberOfIterations": ["80"],
    "ImageSampler": ["Full"],
    "FixedImagePyramid": ["FixedRecursiveImagePyramid"],
    "MovingImagePyramid": ["MovingRecursiveImagePyramid"],
    "Interpolator": ["BSplineInterpolator"],
    "ResampleInterpolator": ["FinalBSplineInterpolator"],
    "Resampler": ["DefaultResampler"],
    "AutomaticTransformInitialization": ["false"],
    "WriteResultImage": ["false"],
}
mask = Volume(np.ones(grid.shape, np.uint8), grid)
(found,) = itk_elastix.run(blob(0, 0), blob(1.5, 2), mask, [ask], Path(sys.argv[1]) / "log")
print(*found["TransformParameters"], len([name for name in sys.modules if name.startswith("itk.")]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, cwd=ROOT / "bin")
    assert done.returncode == 0, done.stderr
    *shift, modules = map(float, done.stdout.split()[-4:])
    # 1.5 voxels of 2 mm along x, whose direction is (0, -1, 0); 2 of 1 mm along y, (1, 0, 0)
    assert np.allclose(shift, (2.0, -3.0, 0.0), atol=0.15), shift
    assert modules < 600, modules
