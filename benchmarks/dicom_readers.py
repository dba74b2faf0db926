#!/usr/bin/env python3
"""Do three readers see the same grid and voxels? Ours (pydicom), GDCM (in SimpleITK) and dcm2niix.

    benchmarks/dicom_readers.py --dcm2niix PATH/TO/dcm2niix DIR ...

Each DIR holds a series. GDCM gets the files in ITK's own order; dcm2niix's NIfTI is brought to our orientation by
its affine; below -1024 HU (padding) is air in ours, and not compared. Printed: the largest difference of grids (mm) and
of voxels, "–" where a reader refuses or sees another number of images; exit 1 where one differs from ours by more than
0.01 mm or half a unit.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import click
import numpy as np
import SimpleITK as sitk

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "bin"))

from synthct.core.errors import InputError  # noqa: E402
from synthct.images.dicom.series import read_series  # noqa: E402
from synthct.images.grid import Volume, from_sitk  # noqa: E402
from synthct.images.orientation import to_lps  # noqa: E402


def gdcm(directory: Path) -> list[Volume]:
    """Each series of the directory."""
    reader, found = sitk.ImageSeriesReader(), []
    for uid in reader.GetGDCMSeriesIDs(str(directory)):
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(directory), uid))
        image = reader.Execute()
        found += [from_sitk(image)] if image.GetDimension() == 3 else []
    return found


def dcm2niix(program: str, directory: Path) -> list[Volume]:
    """Each NIfTI that dcm2niix makes, localisers and derived images too."""
    with tempfile.TemporaryDirectory() as place:
        subprocess.run([program, "-b", "n", "-z", "n", "-m", "n", "-o", place, str(directory)], capture_output=True)
        images = [sitk.ReadImage(str(path)) for path in sorted(Path(place).glob("*.nii"))]
        return [from_sitk(image) for image in images if image.GetDimension() == 3]


def difference(ours: Volume, others: list[Volume]) -> tuple[float, float] | None:
    """The smallest largest distance of corners (mm) and difference of voxels over `others` of our size, or None."""
    found = []
    for other in map(to_lps, others):
        if other.grid.size != ours.grid.size:
            continue
        ends = np.array([[0, 0, 0], np.array(ours.grid.size) - 1])
        corners = [np.array(v.grid.origin) + ends @ v.grid.matrix.T for v in (ours, other)]
        away = float(np.abs(corners[0] - corners[1]).max())
        apart = np.abs(ours.array.astype(float) - other.array)
        apart[(other.array < -1024) & (ours.array == -1024)] = 0  # padding, which we read as air
        found.append((away, float(apart.max())))
    return min(found, default=None)


@click.command(help=__doc__.split("\n")[0])
@click.option("--dcm2niix", "program", required=True)
@click.argument("directories", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
def main(program, directories):
    print("| series | ours | GDCM: mm, units | dcm2niix: mm, units |\n|---|---|---|---|")
    wrong = 0
    for directory in directories:
        try:
            ours = to_lps(read_series(directory))
        except InputError as fault:
            print(f"| {directory.name} | refused: {str(fault).replace(str(directory), '')[:90]} | | |")
            continue
        cells = []
        for read in (gdcm, lambda place: dcm2niix(program, place)):
            try:
                found = difference(ours, read(directory))
            except RuntimeError:
                found = None
            wrong += bool(found and (found[0] > 0.01 or found[1] > 0.5))
            cells.append("–" if found is None else f"{found[0]:.4f}, {found[1]:g}")
        print(f"| {directory.name} | {'×'.join(map(str, ours.grid.size))} | {' | '.join(cells)} |")
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
