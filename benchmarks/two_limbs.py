#!/usr/bin/env python3
"""A pair with two limbs that moved differently, of one real limb and its mirror image, with known answer.

    two_limbs.py CASES/mr/STS_010 --out PAIRS/mr/STS_010_z --left 0 0 15 --right 0 0 -12 --turn-left 6 0 0

CASE is one of benchmarks/registration.py (mr.mha or cbct.mha, ct.mha, mask.mha, truth/landmarks.csv) with one limb in
its mask. Fixed are the limb and, --gap mm beside it, its mirror image; moving the CTs of both, each moved rigidly
(--left, --right: mm, LPS; --turn-left, --turn-right: degrees about x, y, z of its own middle). What is written has
CASE's form: images, mask, and the landmarks of both limbs.
"""

from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk
from registration import each, move_about

AIR = 10.0  # mm around the limb that are kept, and a fixed image's least distance between the two
AROUND = 30.0  # mm that the moving image reaches further on every side


@click.command(help=__doc__)
@click.argument("case", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--left", nargs=3, type=float, default=(0.0, 0.0, 0.0))
@click.option("--right", nargs=3, type=float, default=(0.0, 0.0, 0.0))
@click.option("--turn-left", nargs=3, type=float, default=(0.0, 0.0, 0.0))
@click.option("--turn-right", nargs=3, type=float, default=(0.0, 0.0, 0.0))
@click.option("--gap", default=20.0, show_default=True, help="mm between the boxes around the two masks")
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(case, left, right, turn_left, turn_right, gap, out):
    name = next(kind for kind in ("mr", "cbct") if (case / f"{kind}.mha").is_file())
    fixed, moving, mask = (sitk.ReadImage(str(case / f"{file}.mha")) for file in (name, "ct", "mask"))
    box = sitk.LabelShapeStatisticsImageFilter()
    box.Execute(sitk.Cast(mask > 0, sitk.sitkUInt8))
    first, size = np.split(np.array(box.GetBoundingBox(1)), 2)
    low = np.array(mask.TransformIndexToPhysicalPoint(first.tolist()))
    span = (size - 1) * np.array(mask.GetSpacing())
    middle = low[0] + span[0] + gap / 2  # the plane that the mirror image is behind
    grid = _grid(mask.GetSpacing(), low - [AIR, AIR, 0], [2 * (middle - low[0] + AIR), span[1] + 2 * AIR, span[2]])
    wide = _grid(
        moving.GetSpacing(), low - AIR - AROUND, np.array([2 * (middle - low[0]), *span[1:]]) + 2 * (AIR + AROUND)
    )
    mirror = sitk.ScaleTransform(3, (-1.0, 1.0, 1.0))
    mirror.SetCenter((middle, 0.0, 0.0))
    centre = (low + span / 2).tolist()
    moves = [move_about(centre, turn_left, left), move_about(mirror.TransformPoint(centre), turn_right, right)]
    (out / "truth").mkdir(parents=True, exist_ok=True)
    for image, file, outside in ((fixed, name, 0.0), (mask, "mask", 0.0)):
        sitk.WriteImage(
            _beside(image, grid, middle, [sitk.Transform(), mirror], outside), str(out / f"{file}.mha"), True
        )
    backs = [moves[0].GetInverse(), sitk.CompositeTransform([mirror, moves[1].GetInverse()])]
    sitk.WriteImage(_beside(moving, wide, middle, backs, -1000.0), str(out / "ct.mha"), True)
    rows = np.loadtxt(case / "truth" / "landmarks.csv", delimiter=",", skiprows=1)
    other = np.hstack([each(mirror, rows[:, :3]), each(mirror, rows[:, 3:])])
    both = [np.hstack([side[:, :3], each(move, side[:, 3:])]) for side, move in zip((rows, other), moves, strict=True)]
    header = (case / "truth" / "landmarks.csv").read_text().split("\n", 1)[0]
    np.savetxt(out / "truth" / "landmarks.csv", np.vstack(both), "%.3f", ",", header=header, comments="")


def _grid(spacing, origin, span) -> sitk.Image:
    image = sitk.Image([int(np.ceil(s / d)) + 1 for s, d in zip(span, spacing, strict=True)], sitk.sitkUInt8)
    image.SetSpacing(spacing)
    image.SetOrigin(np.asarray(origin, float).tolist())
    return image


def _beside(image: sitk.Image, grid: sitk.Image, middle: float, transforms, outside: float) -> sitk.Image:
    """On `grid` the image through the first transform as far as the plane x = `middle`, beyond through the second."""
    order = sitk.sitkNearestNeighbor if image.GetPixelID() == sitk.sitkUInt8 else sitk.sitkLinear
    sides = [sitk.Resample(image, grid, transform, order, outside) for transform in transforms]
    column = round((middle - grid.GetOrigin()[0]) / grid.GetSpacing()[0])
    array = sitk.GetArrayFromImage(sides[0])
    array[:, :, column:] = sitk.GetArrayViewFromImage(sides[1])[:, :, column:]
    result = sitk.GetImageFromArray(array)
    result.CopyInformation(sides[0])
    return result


if __name__ == "__main__":
    main()
