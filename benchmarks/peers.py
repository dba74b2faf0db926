#!/usr/bin/env python3
"""A registration by a peer, with what benchmarks/registration.py asks of bin/register.py: ANTs' SyN or ConvexAdam.

Both are public packages with their own defaults and no part of this project: antspyx runs SyN on mutual information
from where the images lie (its affine stage first lost six of sixteen pairs by 60 mm and more); convexAdam
MIND, coupled convex optimisation and Adam. In an environment beside ours:

    python -m pip install --target PEERS antspyx convexAdam; PYTHONPATH=PEERS .venv/bin/python benchmarks/peers.py ...

CBCT and MR hold the fixed image, the CT is moved. ConvexAdam takes voxels for a unit of length and no mask, so both
images go through it at `--voxel` mm, outside the mask as they are.
"""

import json
import os
import resource
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import click  # noqa: E402
import numpy as np  # noqa: E402
import SimpleITK as sitk  # noqa: E402
import torch  # noqa: E402

from synthct.images.grid import Grid, Volume, resample  # noqa: E402
from synthct.images.volume import read_mask, read_volume, write_volume  # noqa: E402
from synthct.registration.quality import jacobian  # noqa: E402


@click.command(help=__doc__.split("\n")[0])
@click.option("--method", type=click.Choice(["ants", "convexadam"]), required=True)
@click.option("--fixed", required=True)
@click.option("--moving", required=True)
@click.option("--fixed-mask", required=True)
@click.option("--voxel", default=2.0, show_default=True, help="mm, convexAdam")
@click.option("--out-displacement", required=True, type=click.Path(path_type=Path))
@click.option("--qc", required=True, type=click.Path(path_type=Path))
def main(method, fixed, moving, fixed_mask, voxel, out_displacement, qc):
    volume = read_volume(fixed)
    mask = read_mask(fixed_mask, volume.grid)
    if method == "ants":
        field = _ants(fixed, moving, fixed_mask, volume.grid)
    else:
        field = _convexadam(volume, read_volume(moving), voxel)
    write_volume(field, out_displacement)
    folding = float((jacobian(field)[mask.array > 0] <= 0).mean())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    qc.write_text(json.dumps({"method": method, "folding_fraction": folding, "memory_mib": memory}))


def _ants(fixed: str, moving: str, mask: str, grid: Grid) -> Volume:
    import ants

    images = [ants.image_read(path) for path in (fixed, moving, mask)]
    done = ants.registration(*images[:2], type_of_transform="SyNOnly", initial_transform="identity", mask=images[2])
    with tempfile.TemporaryDirectory() as place:
        path = ants.apply_transforms(*images[:2], done["fwdtransforms"], compose=os.path.join(place, "both"))
        return Volume(sitk.GetArrayFromImage(sitk.ReadImage(path, sitk.sitkVectorFloat32)), grid)


def _convexadam(fixed: Volume, moving: Volume, voxel: float) -> Volume:
    from convexAdam.convex_adam_MIND import convex_adam_pt

    size = tuple(max(1, round(n * s / voxel)) for n, s in zip(fixed.grid.size, fixed.grid.spacing, strict=True))
    even = Grid(size, (voxel,) * 3, fixed.grid.origin, fixed.grid.direction)
    arrays = [resample(one, even, outside=-1000.0).array.astype(np.float32) for one in (fixed, moving)]
    found = np.asarray(convex_adam_pt(*arrays, device=torch.device("cpu")))  # voxels, (z, y, x)
    vectors = (found[..., ::-1] * voxel) @ np.array(fixed.grid.direction).reshape(3, 3).T
    channels = [resample(Volume(vectors[..., k].astype(np.float32), even), fixed.grid).array for k in range(3)]
    return Volume(np.stack(channels, -1), fixed.grid)


if __name__ == "__main__":
    main()
