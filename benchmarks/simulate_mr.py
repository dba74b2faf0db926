#!/usr/bin/env python3
"""Simulated MR with exact truth: a real CT is deformed by a random field and given an MR's contrast.

Real MR and CT of a patient are two examinations: what lies between them is in no truth, and tuning on such pairs
favours stiff fields. Here the fixed image is made from the deformed CT, so the truth has no floor but interpolation.
Whatever is reported on these cases must be called simulated MR.

    simulate_mr.py --ct ct.mha --out CASES/mr/SIM_MR_001 --seed 1 --sequence t1

writes OUT/{mr,ct,mask}.mha on one grid and OUT/truth/landmarks.csv, the form that benchmarks/registration.py reads: the
MR is fixed, the CT as it was is moving; landmarks are 500 points of the body, fixed and moving x, y, z (mm, LPS).

Signals (fraction of fat's in T1) are of the order found in textbooks for 1.5 T; tissues are told by HU, marrow by lying
inside cortical bone. Then come resolution, a bias field and Rician noise. The CT's own noise is smoothed away first, so
that it is in one of the images only.
"""

import csv
import json
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk
from scipy import ndimage

# HU between which a tissue is pure; between two tissues the signal is mixed in proportion. The plateaus are as wide as
# a CT's streaks, which would otherwise be in both images.
HU = {
    "air": (-1000, -950),
    "lung": (-850, -650),
    "fat": (-140, -60),
    "muscle": (5, 110),
    "spongy": (200, 260),
    "cortical": (600, 3071),
}
SIGNALS = {
    "t1": {"air": 0.0, "lung": 0.08, "fat": 1.0, "muscle": 0.42, "spongy": 0.55, "cortical": 0.06, "marrow": 0.80},
    "t2": {"air": 0.0, "lung": 0.10, "fat": 0.75, "muscle": 0.30, "spongy": 0.50, "cortical": 0.05, "marrow": 0.60},
    "fatsat": {"air": 0.0, "lung": 0.10, "fat": 0.15, "muscle": 0.62, "spongy": 0.30, "cortical": 0.05, "marrow": 0.20},
}
BONE = 250  # HU of what encloses marrow


@click.command(help=__doc__.split("\n")[0])
@click.option("--ct", required=True, type=click.Path(exists=True, dir_okay=False), help="a real CT")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="directory of the case")
@click.option("--seed", required=True, type=int)
@click.option("--sequence", type=click.Choice(sorted(SIGNALS)), default="t1", show_default=True)
@click.option("--max-mm", default=10.0, show_default=True, help="largest displacement in the body")
@click.option("--control-mm", default=50.0, show_default=True, help="control spacing of the random field")
@click.option("--resolution", nargs=3, default=(1.2, 1.2, 3.0), show_default=True, help="x, y, z (mm), full width")
@click.option("--noise", default=0.03, show_default=True, help="standard deviation, of fat's T1 signal")
@click.option("--bias", default=0.25, show_default=True, help="largest gain or loss by the bias field")
@click.option("--landmarks", default=500, show_default=True)
def main(ct, out, seed, sequence, max_mm, control_mm, resolution, noise, bias, landmarks):
    rng = np.random.default_rng(seed)
    moving = sitk.DICOMOrient(sitk.ReadImage(ct, sitk.sitkFloat32), "LPS")
    body = body_mask(moving)
    transform = random_field(rng, moving, body, max_mm, control_mm)
    fixed_body = sitk.Resample(body, moving, transform, sitk.sitkNearestNeighbor, 0)
    mr = sitk.Mask(signal(smoothed(moving), sequence), body)  # without the couch
    mr = sitk.Resample(mr, moving, transform, sitk.sitkLinear, 0.0)
    mr = scanned(rng, mr, fixed_body, resolution, noise, bias)
    points = random_points(rng, fixed_body, landmarks)
    partners = np.array([transform.TransformPoint(point) for point in points.tolist()])
    inside = _inside(moving, partners)
    (out / "truth").mkdir(parents=True, exist_ok=True)
    hu = sitk.Cast(sitk.Round(sitk.Clamp(moving, sitk.sitkFloat32, -1024, 3071)), sitk.sitkInt16)
    for name, image in (("mr", mr), ("ct", hu), ("mask", sitk.BinaryDilate(fixed_body, [8, 8, 0]))):
        sitk.WriteImage(image, str(out / f"{name}.mha"), useCompression=True)
    with open(out / "truth" / "landmarks.csv", "w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow([f"{kind}_{axis}" for kind in ("fixed", "moving") for axis in "xyz"])
        writer.writerows([[f"{value:.3f}" for value in row] for row in np.hstack([points, partners])[inside]])
    about = {"seed": seed, "sequence": sequence, "max_mm": max_mm, "control_mm": control_mm, "noise": noise}
    (out / "truth" / "about.json").write_text(json.dumps(about | {"bias": bias, "resolution": list(resolution)}))


def body_mask(ct: sitk.Image) -> sitk.Image:
    """The largest thing above -400 HU, its holes filled slice by slice; thin couch parts opened away."""
    mask = sitk.BinaryMorphologicalOpening(ct > -400, [4, 4, 0])
    mask = sitk.RelabelComponent(sitk.ConnectedComponent(mask), sortByObjectSize=True) == 1
    array = np.stack([ndimage.binary_fill_holes(plane) for plane in sitk.GetArrayFromImage(mask)])
    result = sitk.GetImageFromArray(array.astype(np.uint8))
    result.CopyInformation(ct)
    return result


def random_field(rng, image: sitk.Image, body: sitk.Image, max_mm: float, control_mm: float) -> sitk.Transform:
    """A cubic B-spline field (fixed point to moving point) with random coefficients, `max_mm` at most in the body."""
    extent = np.array(image.GetSize()) * image.GetSpacing()
    mesh = [max(1, round(length / control_mm)) for length in extent]
    spline = sitk.BSplineTransformInitializer(image, mesh, order=3)
    coefficients = rng.uniform(-1, 1, len(spline.GetParameters()))
    spline.SetParameters(coefficients.tolist())
    index = np.argwhere(sitk.GetArrayFromImage(body))[::997, ::-1]
    points = [image.TransformIndexToPhysicalPoint(i) for i in index.tolist()]
    size = max(np.linalg.norm(np.subtract(spline.TransformPoint(point), point)) for point in points)
    spline.SetParameters((coefficients * max_mm / size).tolist())
    return spline


def smoothed(ct: sitk.Image) -> sitk.Image:
    """The CT without its noise, edges kept."""
    return sitk.CurvatureAnisotropicDiffusion(ct, timeStep=0.03, conductanceParameter=3.0, numberOfIterations=5)


def signal(ct: sitk.Image, sequence: str) -> sitk.Image:
    """The MR signal of a CT's tissues: mixed in proportion between those of `HU`; marrow where bone encloses it."""
    hu, signals = sitk.GetArrayFromImage(ct), SIGNALS[sequence]
    array = np.interp(hu, [edge for pair in HU.values() for edge in pair], [signals[name] for name in HU for _ in "ab"])
    bone = ndimage.binary_closing(hu > BONE, np.ones((1, 5, 5)), iterations=2)
    enclosed = np.stack([ndimage.binary_fill_holes(plane) for plane in bone]) & (hu < BONE) & (hu > -50)
    inner = ndimage.binary_erosion(enclosed, np.ones((1, 3, 3)))
    array[inner] = signals["marrow"]
    result = sitk.GetImageFromArray(array.astype(np.float32))
    result.CopyInformation(ct)
    return result


def scanned(rng, mr: sitk.Image, body: sitk.Image, resolution, noise: float, bias: float) -> sitk.Image:
    """What a scanner makes of it: blurred to `resolution` (mm, full width at half maximum), shaded, noisy, int16."""
    sigma = [width / 2.355 / spacing for width, spacing in zip(resolution, mr.GetSpacing(), strict=True)]
    array = ndimage.gaussian_filter(sitk.GetArrayFromImage(mr), sigma[::-1])
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in array.shape), indexing="ij", sparse=True)
    shade = sum(a * axis + b * axis**2 for axis, (a, b) in zip(axes, rng.normal(size=(3, 2)), strict=True))
    inside = sitk.GetArrayFromImage(body) > 0
    shade = shade - shade[inside].mean()
    array = array * (1 + bias * shade / np.abs(shade[inside]).max())
    array = np.hypot(array + noise * rng.normal(size=array.shape), noise * rng.normal(size=array.shape))
    result = sitk.GetImageFromArray(np.rint(1000 * array).clip(0, 32767).astype(np.int16))
    result.CopyInformation(mr)
    return result


def random_points(rng, body: sitk.Image, count: int) -> np.ndarray:
    """`count` points (x, y, z, mm), uniform in the body's voxels."""
    index = np.argwhere(sitk.GetArrayFromImage(body))
    index = index[rng.choice(len(index), count, replace=False)][:, ::-1] + rng.uniform(-0.5, 0.5, (count, 3))
    return np.array([body.TransformContinuousIndexToPhysicalPoint(i) for i in index.tolist()])


def _inside(image: sitk.Image, points: np.ndarray) -> np.ndarray:
    index = np.array([image.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])
    return ((index >= 0) & (index <= np.array(image.GetSize()) - 1)).all(1)


if __name__ == "__main__":
    main()
