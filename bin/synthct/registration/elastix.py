"""The baseline: Elastix with the SynthRAD2025 organisers' stage-2 settings, through itk-elastix.

One B-spline stage per case, mutual information plus bending energy (MR) or plus bending energy and a rigidity penalty
(CBCT), fixed = MR or CBCT, moving = CT, body mask as fixed mask. The numbers are the organisers' (facts, from
SynthRAD2025/preprocessing @8a5b125); the parameter maps are written here. An optional rigid stage (their stage 1,
"param_rigid") serves cohorts that are not aligned yet.
"""

import math
import tempfile
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from synthct.core.errors import PairError
from synthct.images.grid import Volume
from synthct.registration import itk_elastix

METRICS = {
    "mi": "AdvancedMattesMutualInformation",
    "bending": "TransformBendingEnergyPenalty",
    "rigidity": "TransformRigidityPenalty",
}
FEWEST = 250  # samples of a level of the rigid stage; six parameters, and half of a volume may lie outside the mask


def register(
    fixed: Volume, moving: Volume, mask: Volume | None, settings: dict, *, seed: int, rigid: bool = False
) -> sitk.Transform:
    """The transform (fixed point to moving point, mm, LPS) that Elastix finds.

    `settings` is the section ``registration.elastix`` of a preset, resolved for modality and region. `mask` lies on
    the fixed grid. Raises `PairError` with Elastix's own reason where it gives up (no overlap, too few samples).
    """
    stages = [deformable_map(settings, seed, extent(fixed))]
    if rigid:
        stages.insert(0, rigid_map(settings["rigid"], seed, fixed.grid.size))
    # A centre of gravity needs masses: with air at -1000 it lies anywhere. Mutual information does not see the shift.
    floors = [float(volume.array.min()) if rigid else 0.0 for volume in (fixed, moving)]
    still, deformed = (
        volume.with_array(volume.array - np.float32(floor))
        for volume, floor in zip((fixed, moving), floors, strict=True)
    )
    with tempfile.TemporaryDirectory() as place:
        log = Path(place) / "elastix.log"
        try:
            maps = itk_elastix.run(still, deformed, mask, stages, log)
        except RuntimeError as fault:
            raise PairError(f"elastix gave up: {_reason(log, fault)}") from None
    composite = sitk.CompositeTransform(3)
    for transform in reversed([_to_sitk(m) for m in maps]):  # SimpleITK applies the last added first
        composite.AddTransform(transform)
    return composite


def _reason(log: Path, fault: Exception) -> str:
    """What Elastix's log says went wrong; its exception says only that the log knows."""
    lines = log.read_text(errors="replace").splitlines() if log.is_file() else []
    told = [line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("Description:")]
    return next(filter(None, reversed(told)), (str(fault).strip().splitlines() or ["no reason given"])[-1].strip())


def extent(volume: Volume) -> list[float]:
    """The volume's size in mm (x, y, z), between its outermost voxel centres."""
    return [(n - 1) * spacing for n, spacing in zip(volume.grid.size, volume.grid.spacing, strict=True)]


def deformable_map(settings: dict, seed: int, extent_mm: list[float]) -> dict[str, list[str]]:
    """The organisers' deformable map as Elastix parameters: one list of strings a key.

    `extent_mm` is the fixed image's (x, y, z): Elastix refuses a sample region that is larger.
    """
    levels = len(settings["iterations"])
    weights = {name: settings[name] for name in METRICS if settings.get(name, 0) > 0}
    pyramid = {"recursive": "Recursive", "smoothing": "Smoothing"}[settings["pyramid"]] + "ImagePyramid"
    grid_sampler = settings["sampler"] == "Grid"
    result = {
        "Registration": [
            "MultiMetricMultiResolutionRegistration" if len(weights) > 1 else "MultiResolutionRegistration"
        ],
        "NumberOfResolutions": [levels],
        "Metric": [METRICS[name] for name in weights],
        **{f"Metric{i}Weight": [value] for i, value in enumerate(weights.values())},
        "FixedImagePyramid": [f"Fixed{pyramid}"],
        "MovingImagePyramid": [f"Moving{pyramid}"],
        "ImagePyramidSchedule": [f for factor in settings["pyramid_schedule"] for f in (factor,) * 3],
        "Transform": ["BSplineTransform"],
        "BSplineTransformSplineOrder": [3],
        "FinalGridSpacingInPhysicalUnits": [settings["grid_mm"]] * 3,
        "GridSpacingSchedule": [f for factor in settings["grid_schedule"] for f in (factor,) * 3],
        "HowToCombineTransforms": ["Compose"],
        "AutomaticTransformInitialization": ["false"],
        "NumberOfHistogramBins": [settings["bins"]],
        "MaximumNumberOfIterations": settings["iterations"],
        "ImageSampler": ["Grid" if grid_sampler else "RandomCoordinate"],  # "Sampler" is a key Elastix does not know
        "ErodeMask": [str(settings["erode_mask"]).lower()],
        "BSplineInterpolationOrder": [3],
        **_common(settings, seed),
    }
    if grid_sampler:
        result["SampleGridSpacing"] = [step for factor in settings["sample_step"] for step in (factor,) * 3]
    else:
        result |= {
            "NumberOfSpatialSamples": [settings["samples"]],
            "NewSamplesEveryIteration": ["true"],
            "UseRandomSampleRegion": ["true"],
            "SampleRegionSize": [min(settings["sample_region_mm"], size) for size in extent_mm],
        }
    return _strings(result)


def rigid_map(settings: dict, seed: int, size: tuple[int, int, int]) -> dict[str, list[str]]:
    """The organisers' stage 1 ("param_rigid"): Euler, mutual information, four levels, centre-of-gravity start.

    Where their numbers would leave a level of an image of `size` voxels (x, y, z) fewer than `FEWEST` samples, it
    samples more densely, and shrinks less: with ten samples the optimiser's first step leaves the image.
    """
    levels = [
        _dense_enough(size, factor, step)
        for factor, step in zip(settings["pyramid_schedule"], settings["sample_step"], strict=True)
    ]
    return _strings(
        {
            "Registration": ["MultiResolutionRegistration"],
            "NumberOfResolutions": [len(levels)],
            "Metric": [METRICS["mi"]],
            "FixedImagePyramid": ["FixedRecursiveImagePyramid"],
            "MovingImagePyramid": ["MovingRecursiveImagePyramid"],
            "ImagePyramidSchedule": [f for factor, _ in levels for f in (factor,) * 3],
            "Transform": ["EulerTransform"],
            "AutomaticScalesEstimation": ["false"],
            "Scales": [settings["rotation_scale"]] * 3 + [1.0] * 3,
            "AutomaticTransformInitialization": ["true"],
            "AutomaticTransformInitializationMethod": ["CenterOfGravity"],
            "HowToCombineTransforms": ["Compose"],
            "NumberOfHistogramBins": [settings["bins"]],
            "MaximumNumberOfIterations": settings["iterations"],
            "ImageSampler": ["Grid"],
            "SampleGridSpacing": [s for _, step in levels for s in (step,) * 3],
            "BSplineInterpolationOrder": [1],
            **_common(settings, seed),
        }
    )


def _dense_enough(size: tuple[int, int, int], factor: int, step: int) -> tuple[int, int]:
    """Shrink factor and sample step of a level, both made smaller until the level has `FEWEST` samples."""
    while math.prod(max(1, n // (factor * step)) for n in size) < FEWEST and (step > 1 or factor > 1):
        factor, step = (factor, step - 1) if step > 1 else (factor - 1, 1)
    return factor, step


def _common(settings: dict, seed: int) -> dict:
    return {
        "FixedInternalImagePixelType": ["float"],
        "MovingInternalImagePixelType": ["float"],
        "UseDirectionCosines": ["true"],
        "Interpolator": ["BSplineInterpolator"],
        "Optimizer": ["AdaptiveStochasticGradientDescent"],
        "AutomaticParameterEstimation": ["true"],
        "MaximumNumberOfSamplingAttempts": [settings["sampling_attempts"]],
        "RequiredRatioOfValidSamples": [settings["valid_ratio"]],
        "ResampleInterpolator": ["FinalBSplineInterpolator"],
        "FinalBSplineInterpolationOrder": [3],
        "Resampler": ["DefaultResampler"],
        "DefaultPixelValue": [-1000],
        "WriteResultImage": ["false"],
        "RandomSeed": [seed],
    }


def _strings(values: dict) -> dict[str, list[str]]:
    return {key: [str(value) for value in items] for key, items in values.items()}


def _to_sitk(found) -> sitk.Transform:
    numbers = [float(value) for value in found["TransformParameters"]]
    if found["Transform"][0] == "EulerTransform":
        transform = sitk.Euler3DTransform()
        transform.SetComputeZYX(found["ComputeZYX"][0] == "true" if "ComputeZYX" in found else False)
        transform.SetCenter([float(value) for value in found["CenterOfRotationPoint"]])
        transform.SetParameters(numbers)
        return transform
    fixed = [float(value) for key in ("GridSize", "GridOrigin", "GridSpacing", "GridDirection") for value in found[key]]
    direction = np.array(fixed[9:]).reshape(3, 3).T.ravel()  # Elastix writes it column by column
    transform = sitk.BSplineTransform(3, 3)
    transform.SetFixedParameters([*fixed[:9], *direction])
    transform.SetParameters(numbers)
    return transform
