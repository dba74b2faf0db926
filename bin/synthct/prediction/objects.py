"""One patient's results as DICOM objects in one frame of reference: sCT, ensemble's spread, the body's outline.

Whose they are is said by the image's own series, or for an image of another format by one that the user names.
"""

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError
from synthct.core.files import atomic, require_replaceable
from synthct.images.axial import axial_grid
from synthct.images.dicom.contours import body_structure
from synthct.images.dicom.identity import lacking
from synthct.images.dicom.sending import address, send
from synthct.images.dicom.series import Series, check_same
from synthct.images.dicom.writing import UNCERTAINTY, ours, write_series
from synthct.images.grid import Grid, Volume, resample


@dataclass(frozen=True)
class Wanted:
    """What is to be written: directories `sct` and `uncertainty`, the file `structures`; None is not asked for.

    `axial` (mm) resamples all of them onto axial slices; `server` (HOST:PORT:AET) is sent what was written.
    """

    sct: Path
    uncertainty: Path | None = None
    structures: Path | None = None
    axial: float | None = None
    server: str | None = None


def of_patient(wanted: Wanted, name: str) -> Wanted:
    """What is wanted for one patient of a list, where `wanted` names the directories of all."""
    return replace(
        wanted,
        sct=Path(wanted.sct, name),
        uncertainty=Path(wanted.uncertainty, name) if wanted.uncertainty else None,
        structures=Path(wanted.structures, f"{name}.dcm") if wanted.structures else None,
    )


def check_places(wanted: Wanted, inputs: list[Path], outputs: list[Path]):
    """Nothing but what we wrote may be replaced, no input least of all; the server's address is one.

    A directory of slices is replaced as a whole: no other output, of `outputs` or of what is wanted, may lie in it.
    """
    for directory in filter(None, (wanted.sct, wanted.uncertainty)):
        require_replaceable(directory, ours, inputs)
    places = {"--dicom": wanted.sct, "--dicom-uncertainty": wanted.uncertainty}
    others = [("--dicom-structures", wanted.structures), *places.items(), *(("output", one) for one in outputs)]
    for option, directory in places.items():
        for name, other in others:
            if directory and other and name != option and _within(other, directory):
                raise InputError(
                    f"{name} {other}: lies in {option} {directory}, which is replaced as a whole, expected a place "
                    "apart from it"
                )
    if wanted.server:
        address(wanted.server)


def _within(place: Path, directory: Path) -> bool:
    """Whether `place` is the directory, or lies in it or below."""
    return Path(directory).resolve() in (Path(place).resolve(), *Path(place).resolve().parents)


def check(wanted: Wanted, source: Series, grid: Grid, image: Series | None = None) -> list[str]:
    """Before the networks run: does `source` see what the image (`grid`) shows, do slices fit an image?

    `image` is the image where it is a series itself: then both must be of one patient and frame of reference. Returns
    a line for each thing that the objects will lack because the source does. Raises `InputError`.
    """
    if image is not None:
        both = [image.frames[0], source.frames[0]]
        check_same(both, f"{image.path} and {source.path}", ("PatientID", "FrameOfReferenceUID"))
    where = axial_grid(grid, wanted.axial) if wanted.axial else grid
    if max(where.size[:2]) > 65535:
        raise InputError(f"DICOM output: {where.size[0]}×{where.size[1]} pixels, more than an image can have")
    ends = [(0.0, size - 1.0) for size in source.grid.size]
    corners = np.array([source.grid.matrix @ index for index in product(*ends)]) + source.grid.origin
    index = grid.index(corners)
    if (index.max(0) < 0).any() or (index.min(0) > np.array(grid.shape) - 1).any():
        raise InputError(
            f"DICOM series {source.path}: lies apart from the image in space, expected the series it was made of"
        )
    apart = image is None and source.grid.differs_from(grid)
    other = f"the DICOM series {source.path} lies on another grid than the image: whether it is the same patient's "
    return [*([other + "cannot be told"] if apart else []), *lacking(source)]


def write(
    wanted: Wanted, source: Series, sct: Volume, uncertainty: Volume, mask: Volume, *, model: str, comments: str = ""
) -> list[Path]:
    """Write what is `wanted`; volumes lie on one grid, `model` is the bundle's digest. Returns the files."""
    if wanted.axial:
        grid = axial_grid(sct.grid, wanted.axial)
        sct = resample(sct, grid, order=1, outside=-1024)
        uncertainty, mask = resample(uncertainty, grid, order=1), resample(mask, grid, order=0)
    slices = write_series(sct, source, wanted.sct, model=model, comments=comments)
    files = sorted(Path(wanted.sct).iterdir())
    if wanted.uncertainty:
        write_series(uncertainty, source, wanted.uncertainty, kind=UNCERTAINTY, model=model, comments=comments)
        files += sorted(Path(wanted.uncertainty).iterdir())
    if wanted.structures:
        with atomic(wanted.structures) as temporary:
            body_structure(mask, source, slices).save_as(temporary, enforce_file_format=True)
        files.append(Path(wanted.structures))
    return files


def sent(files: list[Path], server: str):
    """Send what was written to ``HOST:PORT:AET``."""
    send(files, server)
