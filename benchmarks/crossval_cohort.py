#!/usr/bin/env python3
"""A cohort for crossval.py, small enough to be sent to a GPU: cut to the body, images finer than --voxel brought to it.

    crossval_cohort.py SHEET REGISTERED --modality cbct --arms truth,mind,elastix,impact_dense,none --out COHORT

SHEET has the columns patient, region, image, ct, mask, and ct_aligned for the arm "truth". REGISTERED holds
<arm>/<patient>/{image,ct,mask}.mha as a study publishes them (results/registration); an arm that is not there takes the
sheet's own CT. All images of a patient lie on one grid. Where an arm deforms the image, its image is kept; a CT that
stays in its place is kept once. Finer pixels are sampled linearly, without a filter before.
"""

import os
import sys
from pathlib import Path

import numpy as np
from scipy import ndimage

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

import click  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.core.tables import read_table, write_table  # noqa: E402
from synthct.images.grid import Grid, Volume, resample  # noqa: E402
from synthct.images.volume import read_mask, read_volume, write_volume  # noqa: E402

AIR = {"mr": 0, "cbct": -1024}
CT_AIR = -1024
RIM = 2  # voxels around the mask that are kept


@click.command(help=__doc__.split("\n")[0])
@click.argument("sheet", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("registered", type=click.Path(path_type=Path))
@click.option("--arms", required=True)
@click.option("--modality", type=click.Choice(presets.MODALITIES), required=True)
@click.option("--voxel", default=2.0, show_default=True, help="mm, in the plane")
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(sheet, registered, arms, modality, voxel, out):
    recipes = presets.resolve("paper", modality)["registration"]["arms"]
    rows = read_table(sheet, "sheet", ("patient", "region", "image", "ct", "mask"))
    for row in rows:
        name, base = row["patient"], sheet.parent
        image = read_volume(base / row["image"])
        body = coarser(read_mask(base / row["mask"], image.grid), voxel, 0, 0)
        keep(image, body.array, out / "given" / name / "image.mha", voxel, AIR[modality])
        write_volume(body, out / "given" / name / "mask.mha")
        moved = [arm for arm in arms.split(",") if recipes[arm]["direction"] == "image_to_ct"]
        masks = {arm: coarser(read_mask(registered / arm / name / "mask.mha"), voxel, 0, 0) for arm in moved}
        anywhere = np.any([body.array > 0, *(mask.array > 0 for mask in masks.values())], axis=0)
        place = out / "ct" / name / "ct.mha"
        keep(read_volume(base / row["ct"]), anywhere, place, voxel, CT_AIR)
        for arm in arms.split(","):
            own, pair = out / arm / name, registered / arm / name
            own.mkdir(parents=True, exist_ok=True)
            if arm in moved:
                keep(read_volume(pair / "image.mha"), masks[arm].array, own / "image.mha", voxel, AIR[modality])
            if arm in moved or not (pair / "ct.mha").exists() and arm != "truth":
                (own / "ct.mha").unlink(missing_ok=True)
                (own / "ct.mha").symlink_to(os.path.relpath(place, own))
                write_volume(masks.get(arm, body), own / "mask.mha")
                continue
            ct = read_volume(base / row["ct_aligned"] if arm == "truth" else pair / "ct.mha")
            mask = body if arm == "truth" else coarser(read_mask(pair / "mask.mha"), voxel, 0, 0)
            keep(ct, body.array, own / "ct.mha", voxel, CT_AIR)
            write_volume(mask, own / "mask.mha")
    write_table(out / "sheet.csv", rows, ("patient", "region"))


def coarser(volume: Volume, voxel: float, order: int, outside: float) -> Volume:
    """On pixels of `voxel` mm where they are finer; slices stay as they are."""
    grid = volume.grid
    if grid.spacing[0] >= voxel:
        return volume
    across = [max(1, round(n * step / voxel)) for n, step in zip(grid.size[:2], grid.spacing[:2], strict=True)]
    wanted = Grid((*across, grid.size[2]), (voxel, voxel, grid.spacing[2]), grid.origin, grid.direction)
    return resample(volume, wanted, order=order, outside=outside)


def keep(volume: Volume, mask: np.ndarray, path: Path, voxel: float, air: float):
    """Write the volume within and near the mask, as whole numbers."""
    volume = coarser(volume.with_array(volume.array.astype(np.float32)), voxel, 1, air)
    near = ndimage.binary_dilation(mask > 0, iterations=RIM)
    write_volume(volume.with_array(np.where(near, np.rint(volume.array), air).astype(np.int16)), path, compress=False)


if __name__ == "__main__":
    main()
