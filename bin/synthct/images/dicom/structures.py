"""A region drawn in a planning system as a mask: closed contours of an RTSTRUCT, or a segment of a DICOM SEG.

A voxel is inside where its centre is inside an odd number of a plane's contours, so that a hole drawn as a contour of
its own, or reached through a keyhole, is a hole; a contour exported twice counts once. Slices between two contour
planes take the nearer one, unless the planes lie so far apart that they end two parts of the region. A SEG may leave
out frames with nothing in them: those between its frames are empty.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from synthct.core.errors import InputError, PatientError
from synthct.images.dicom.filling import filled
from synthct.images.dicom.regions import Drawing, Region, opened, points_of
from synthct.images.dicom.segments import segment_on
from synthct.images.grid import Grid, Volume

OUTLINE = ("BODY", "EXTERNAL", "SKIN", "OUTLINE", "BODY CONTOUR")  # what planning systems call the patient's outline


def is_dicom(path) -> bool:
    """Whether a file is a DICOM object (with a preamble, or called .dcm)."""
    path = Path(path)
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(132)[128:] == b"DICM" or path.suffix.lower() == ".dcm"


def mask_of(path, grid: Grid, roi: str | None = None) -> Volume:
    """The region `roi` (its name, or its number as "#3") of an RTSTRUCT or SEG file as a uint8 mask on `grid`.

    Without a name it is the patient's outline: the region marked EXTERNAL, one called BODY and the like, or the only
    one. Raises `InputError` that names the regions there are, for a region without closed contours, for one that
    lies outside the grid or in another frame of reference than it, and for elements that cannot be read.
    """
    drawing = opened(path)
    return _mask(drawing, _meant(drawing, roi), grid)


def drawn(path, grid: Grid) -> Iterator[tuple[str, Volume]]:
    """Every region of an RTSTRUCT or SEG with something on `grid`, by name, as uint8 masks; the outline is none.

    Where several regions have one name, their numbers tell them apart ("Cord #3").
    """
    drawing = opened(path)
    for region in drawing.regions:
        if region.parts and not _is_outline(region):
            inside = _draw(drawing, region, grid)
            if inside.any():
                yield drawing.title(region), Volume(inside.astype(np.uint8), grid)


def target_of(path, grid: Grid, roi: str | None = None) -> tuple[str, Volume]:
    """The region to treat: `roi`, else the only one of type PTV, called PTV..., or there at all; its name and mask."""
    drawing = opened(path)
    if roi is None:
        rules = (lambda one: one.kind == "PTV", lambda one: one.name.upper().startswith("PTV"), lambda one: True)
        region = _only(drawing, rules)
    else:
        region = _named(drawing, roi)
    if region is None:
        raise InputError(
            f"target {path}: which region is to be treated? name it with --target-roi; the regions are "
            f"{', '.join(regions_in(path)) or 'none'}"
        )
    return drawing.title(region), _mask(drawing, region, grid)


def regions_in(path) -> list[str]:
    """Names of the regions of an RTSTRUCT that have a closed contour, or of a SEG's segments that have a frame.

    Raises `InputError` for any other file.
    """
    drawing = opened(path)
    return [drawing.title(region) for region in drawing.regions if region.parts]


def _is_outline(region: Region) -> bool:
    return region.kind == "EXTERNAL" or region.name.upper() in OUTLINE


def _meant(drawing: Drawing, roi: str | None) -> Region:
    """The region that is asked for by name, else the patient's outline."""
    if roi is not None:
        return _named(drawing, roi)
    rules = (lambda one: one.kind == "EXTERNAL", lambda one: one.name.upper() in OUTLINE, lambda one: True)
    region = _only(drawing, rules)
    if region is None:
        raise InputError(
            f"mask {drawing.path}: which region is the body? name it with --roi; the regions are {drawing.names()}"
        )
    return region


def _only(drawing: Drawing, rules: tuple[Callable[[Region], bool], ...]) -> Region | None:
    """The one drawn region that fits the first rule which any fits; None where several do, or none is drawn."""
    for rule in rules:
        fits = [region for region in drawing.regions if region.parts and rule(region)]
        if fits:
            return fits[0] if len(fits) == 1 else None
    return None


def _named(drawing: Drawing, roi: str) -> Region:
    """The region called `roi`, in these letters or else in any case, or numbered so."""
    fits = (
        [one for one in drawing.regions if one.name == roi]
        or [one for one in drawing.regions if one.name.lower() == roi.lower()]
        or [one for one in drawing.regions if roi in (f"#{one.number}", drawing.title(one))]
    )
    if not fits:
        raise InputError(f"mask {drawing.path}: no region {roi!r}; it has {drawing.names()}")
    usable = [one for one in fits if one.parts]
    if not usable:
        what = "frame" if drawing.is_seg else "closed contour"
        raise InputError(f"mask {drawing.path}: region {roi} has no {what}; the regions are {drawing.names()}")
    if len(usable) > 1:
        which = ", ".join(f"#{one.number} ({one.name})" for one in usable)
        raise InputError(f"mask {drawing.path}: {len(usable)} regions are called {roi}, expected one of {which}")
    return usable[0]


def _mask(drawing: Drawing, region: Region, grid: Grid) -> Volume:
    inside = _draw(drawing, region, grid)
    if not inside.any():
        raise PatientError(f"{drawing.at(region)} lies outside the image, another frame of reference?")
    return Volume(inside.astype(np.uint8), grid)


def _draw(drawing: Drawing, region: Region, grid: Grid) -> np.ndarray:
    where = drawing.at(region)
    if grid.frame and region.frame and region.frame != grid.frame:
        raise PatientError(
            f"{where} is drawn in the frame of reference {region.frame}, expected the image's, {grid.frame}: it was "
            "drawn on another image"
        )
    if drawing.is_seg:
        return segment_on(drawing, region, grid)
    polygons = [points_of(contour, f"{where}, contour {count}") for count, contour in enumerate(region.parts, 1)]
    return filled(polygons, grid, where)
