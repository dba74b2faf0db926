"""Cases: one patient's image (and CT) ready for training, as int16 arrays on disk that are read a few rows at a time.

A case directory holds image.npy and ct.npy (int16 (z, y, x), cropped in-plane to the mask; voxels outside the mask
hold `OUTSIDE`) and case.json. A slice is read with `pread`, not through a lasting memory map: as fast when the page
cache is warm, and neither open files nor resident memory grow with the number of patients.
"""

import hashlib
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from synthct.cases.intensity import Normalisation, ct_normalisation, measure
from synthct.core.errors import InputError, PatientError
from synthct.core.files import atomic_directory, plain, sha256_of, write_json
from synthct.core.presets import RULES, check_types
from synthct.core.tables import read_object
from synthct.images.grid import Grid, Volume, resample, triple
from synthct.images.streams import free_memory

FORMAT = 1
OUTSIDE = -32768  # marks voxels outside the mask in image.npy and ct.npy
LEVELS = 32000  # steps that the range of a non-integer image is quantised to


def working_grid(grid: Grid, spacing) -> Grid:
    """`grid` with another spacing (mm, x, y, z; 0 keeps an axis), same first voxel's corner and extent."""
    new = triple(float(s) if s > 0 else old for s, old in zip(spacing, grid.spacing, strict=True))
    if all(abs(a - b) < 1e-4 * b for a, b in zip(new, grid.spacing, strict=True)):
        return grid
    size = triple(max(2, math.ceil(n * old / s - 1e-6)) for n, old, s in zip(grid.size, grid.spacing, new, strict=True))
    shift = np.array(grid.direction).reshape(3, 3) @ ((np.array(new) - grid.spacing) / 2)
    return replace(grid, size=size, spacing=new, origin=triple(float(v) for v in np.array(grid.origin) + shift))


def prepare(image: Volume, mask: Volume, modality: str, rules: dict) -> tuple[Volume, Volume, Normalisation]:
    """`image` and `mask` on the working grid of the `preprocessing` settings, and the image's normalisation.

    Training and prediction both come through here. Returns (image, float32 or its own type; mask uint8; rule for the
    image's own intensities). Raises `PatientError` for a grid that memory cannot hold, before it is made.
    """
    grid = working_grid(image.grid, rules["spacing"])
    needed, room = math.prod(grid.size) * (image.array.itemsize + mask.array.itemsize), free_memory()
    if grid is not image.grid and needed > room:
        raise PatientError(
            f"image of {'×'.join(map(str, image.grid.size))} voxels has {'×'.join(map(str, grid.size))} at "
            f"preprocessing.spacing {rules['spacing']} mm, for which {needed / 2**30:.1f} GiB of memory are needed and "
            f"{room / 2**30:.1f} GiB are free"
        )
    low = float(image.array.min())
    image = resample(image, grid, order=1, outside=low)
    mask = resample(mask, grid, order=0)
    if not mask.array.any():
        raise PatientError(f"mask vanishes at a spacing of {rules['spacing']} mm")
    return image, mask, measure(image.array[mask.array > 0], modality, rules)


def ours(file: Path) -> bool:
    """Whether a file in a directory is one that `write_case` puts there."""
    return file.name in ("case.json", "image.npy", "ct.npy") and (file.parent / "case.json").is_file()


def write_case(
    out, *, image: Volume, mask: Volume, ct: Volume | None, modality: str, rules: dict, labels: dict
) -> dict:
    """Write a case directory (atomically) and return what went into its case.json.

    `image`, `mask` and `ct` lie on one grid; `rules` are the `preprocessing` settings; `labels` name the patient,
    region, center and arm.
    """
    source = image.grid
    image, mask, normalisation = prepare(image, mask, modality, rules)
    inside = mask.array > 0
    box = _box(inside)
    crop = (slice(None), slice(*box["y"]), slice(*box["x"]))
    stored, normalisation = _quantised(image.array, inside, normalisation)
    arrays = {"image": np.where(inside, stored, OUTSIDE).astype(np.int16)[crop]}
    if ct is not None:
        hu = resample(ct, image.grid, order=1, outside=rules["ct_range"][0]).array
        hu = np.clip(np.rint(hu.astype(np.float32)), OUTSIDE + 1, 32767)
        arrays["ct"] = np.where(inside, hu, OUTSIDE).astype(np.int16)[crop]
    case = {
        "format": FORMAT,
        **labels,
        "modality": modality,
        "grid": _grid_json(image.grid),
        "source_grid": _grid_json(source),
        "box": [0, inside.shape[0], *box["y"], *box["x"]],
        "normalisation": normalisation.as_json(),
        "preprocessing": {key: rules[key] for key in RULES},
        "body_slices": np.flatnonzero(inside.any(axis=(1, 2))).tolist(),
        "sha256": {},
    }
    with atomic_directory(out, ours) as directory:
        for name, array in arrays.items():
            array = np.ascontiguousarray(array)
            case["sha256"][name] = hashlib.sha256(array.data).hexdigest()
            np.save(directory / f"{name}.npy", array)
        write_json(directory / "case.json", plain(case))
    return case


@dataclass(frozen=True)
class Case:
    """One case on disk: what case.json says, and where its arrays start."""

    path: Path
    patient: str
    region: str
    modality: str
    shape: tuple[int, int, int]  # of the arrays: (z, y, x), all slices, in-plane box
    corner: tuple[int, int]  # (y, x) of the box in the plane
    plane: tuple[int, int]  # (y, x) size of the whole plane
    body_slices: tuple[int, ...]
    normalisation: Normalisation
    preprocessing: dict
    has_ct: bool
    digest: str
    sha256: dict[str, str]  # of the arrays
    data_start: int

    def check_arrays(self):
        """`InputError` unless the arrays are those that were written, by their SHA-256: all of them is read once."""
        for name, expected in self.sha256.items():
            with open(self.path / f"{name}.npy", "rb") as file:
                file.seek(self.data_start)
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != expected:
                raise InputError(
                    f"case {self.path}: {name}.npy is not the array that was written (SHA-256 {found[:12]}…, expected "
                    f"{expected[:12]}…); damaged, or another patient's?"
                )

    def rows(self, name: str, z: int, y0: int, y1: int) -> np.ndarray:
        """Rows [y0, y1) of slice `z` of "image" or "ct", box coordinates: int16 (y1 - y0, x)."""
        width = self.shape[2]
        count = (y1 - y0) * width * 2
        descriptor = os.open(self.path / f"{name}.npy", os.O_RDONLY)
        try:
            data = os.pread(descriptor, count, self.data_start + (z * self.shape[1] + y0) * width * 2)
        finally:
            os.close(descriptor)
        if len(data) != count:
            raise InputError(f"case {self.path}: {name}.npy is truncated")
        return np.frombuffer(data, np.int16).reshape(y1 - y0, width)

    def window(self, name: str, z: int, y0: int, x0: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """A window of slice `z` from (y0, x0), plane coordinates, `size` (y, x); it may reach beyond the plane.

        Slices beyond the volume are reflected (-1 is 1). Returns int16 values, `OUTSIDE` where there is no body, and a
        bool array that is True beyond the plane.
        """
        depth = self.shape[0]
        z = reflect(z, depth)
        values = np.full(size, OUTSIDE, np.int16)
        top, left = y0 - self.corner[0], x0 - self.corner[1]
        ya, yb = max(0, top), min(self.shape[1], top + size[0])
        xa, xb = max(0, left), min(self.shape[2], left + size[1])
        if ya < yb and xa < xb:
            values[ya - top : yb - top, xa - left : xb - left] = self.rows(name, z, ya, yb)[:, xa:xb]
        beyond = np.zeros(size, bool)
        beyond[: max(0, -y0)] = True
        beyond[max(0, self.plane[0] - y0) :] = True
        beyond[:, : max(0, -x0)] = True
        beyond[:, max(0, self.plane[1] - x0) :] = True
        return values, beyond

    def patch(self, z: int, y0: int, x0: int, size, channels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Network input (channels, y, x) and target (1, y, x), float32 normalised, and the body (1, y, x) bool.

        The input is slice `z` between its neighbours, ±channels//2, reflected at the volume's ends; beyond the plane
        it holds `padding`. The target is -1 outside the body.
        """
        size = tuple(size)
        half = channels // 2
        x = np.empty((channels, *size), np.float32)
        for k in range(channels):
            values, beyond = self.window("image", z + k - half, y0, x0, size)
            inside = values != OUTSIDE
            x[k] = self.normalisation(values, inside)
            x[k][beyond] = self.preprocessing["padding"]
        values, _ = self.window("ct", z, y0, x0, size)
        inside = values != OUTSIDE
        y = ct_normalisation(self.preprocessing["ct_range"])(values, inside)
        return x, y[None], inside[None]


def reflect(z: int, depth: int) -> int:
    """Slice number `z` folded back into [0, depth), the end slices not repeated: -1 is 1, depth is depth - 2."""
    period = max(1, 2 * (depth - 1))
    z = abs(z) % period
    return z if z < depth else period - z


def read_case(path) -> Case:
    """Read and check a case directory. Raises `InputError` when it is not one or its files do not fit case.json."""
    path = Path(path)
    data = read_object(path / "case.json", "case")
    if data.get("format") != FORMAT:
        raise InputError(f"case {path}: format {data.get('format')!r}, expected {FORMAT}")
    _check_content(data, f"case {path / 'case.json'}")
    z0, z1, y0, y1, x0, x1 = data["box"]
    shape = (z1 - z0, y1 - y0, x1 - x0)
    has_ct = (path / "ct.npy").is_file()
    start = 0
    for name in ("image", "ct") if has_ct else ("image",):
        start = _data_start(path / f"{name}.npy", shape)
    size = data["grid"]["size"]
    return Case(
        path=path,
        patient=data["patient"],
        region=data["region"],
        modality=data["modality"],
        shape=shape,
        corner=(y0, x0),
        plane=(size[1], size[0]),
        body_slices=tuple(data["body_slices"]),
        normalisation=Normalisation.from_json(data["normalisation"]),
        preprocessing=data["preprocessing"],
        has_ct=has_ct,
        digest=sha256_of(path / "case.json"),
        sha256={name: digest for name, digest in data["sha256"].items() if name == "image" or has_ct},
        data_start=start,
    )


def find_cases(directories) -> dict[str, Case]:
    """All cases in `directories` (each one a case, or a directory of cases), by patient, in order of name."""
    found: dict[str, Case] = {}
    for directory in map(Path, directories):
        if not directory.is_dir():
            raise InputError(f"cases {directory}: no such directory")
        marks = [directory / "case.json"] if (directory / "case.json").is_file() else directory.glob("*/case.json")
        for mark in sorted(marks):
            case = read_case(mark.parent)
            if case.patient in found:
                raise InputError(f"patient {case.patient}: two cases, {found[case.patient].path} and {case.path}")
            found[case.patient] = case
    if not found:
        raise InputError(f"cases {', '.join(map(str, directories))}: no case.json in there")
    return dict(sorted(found.items()))


def _check_content(data: dict, at: str):
    """`InputError` for what has not the form that `write_case` gives it."""
    size, box, slices = _table(data, "grid").get("size", []), data.get("box", []), data.get("body_slices", [])
    rule, digests = _table(data, "normalisation"), _table(data, "sha256")
    clip = rule.get("clip")
    numbers = [rule.get(key) for key in ("scale", "offset", "outside")] + (clip if isinstance(clip, list) else [])
    placed = _whole(size, 3) and _whole(box, 6) and _inside(box, size[::-1])
    checks = {
        **{key: isinstance(data.get(key), str) for key in ("patient", "region", "modality")},
        "grid": _whole(size, 3),
        "box": placed,
        "body_slices": placed and _whole(slices) and all(box[0] <= z < box[1] for z in slices),
        "sha256": {"image"} <= set(digests) <= {"image", "ct"}
        and all(isinstance(one, str) for one in digests.values()),
        "normalisation": all(map(_finite, numbers)) and (clip is None or len(numbers) == 5),
    }
    for key, good in checks.items():
        if not good:
            raise InputError(f"{at}: {key} is {data.get(key)!r:.60}, expected what preprocess.py writes")
    check_types(at, "preprocessing", data.get("preprocessing"))
    if absent := [key for key in RULES if key not in data["preprocessing"]]:
        raise InputError(f"{at}: no preprocessing.{absent[0]}")


def _table(data: dict, key: str) -> dict:
    return found if isinstance(found := data.get(key), dict) else {}


def _whole(numbers, count: int = 0) -> bool:
    """Whether these are whole numbers, `count` of them (0: any number)."""
    return isinstance(numbers, list) and count in (0, len(numbers)) and all(type(each) is int for each in numbers)


def _finite(number) -> bool:
    return isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)


def _inside(box, shape) -> bool:
    """Whether a box (from and to of each axis) lies within an array of `shape` and holds something."""
    return all(0 <= box[2 * k] < box[2 * k + 1] <= shape[k] for k in range(3))


def _data_start(path: Path, shape) -> int:
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            found, fortran, dtype = read(file)
            start = file.tell()
            whole = os.fstat(file.fileno()).st_size == start + 2 * math.prod(found)
    except (OSError, ValueError) as fault:
        raise InputError(f"case array {path}: cannot be read ({fault})") from None
    if found != shape or fortran or dtype != np.int16 or not whole:
        raise InputError(f"case array {path}: {dtype} {found}, expected a whole int16 array {shape} in C order")
    return start


def _box(inside: np.ndarray) -> dict:
    rows, columns = np.flatnonzero(inside.any(axis=(0, 2))), np.flatnonzero(inside.any(axis=(0, 1)))
    return {"y": (int(rows[0]), int(rows[-1]) + 1), "x": (int(columns[0]), int(columns[-1]) + 1)}


def _quantised(array: np.ndarray, inside: np.ndarray, rule: Normalisation) -> tuple[np.ndarray, Normalisation]:
    """Integers in int16's range as they are; anything else in `LEVELS` steps, with the rule for the steps."""
    body = array[inside]
    low, high = float(body.min()), float(body.max())
    if np.issubdtype(array.dtype, np.integer) and low > OUTSIDE and high <= 32767:
        return array, rule
    if rule.clip is not None:  # what is clipped anyway needs no steps of its own
        low, high = max(low, rule.clip[0]), min(high, rule.clip[1])
    step = (high - low) / LEVELS
    steps = np.rint((np.clip(array.astype(np.float64), low, high) - low) / step)
    clip = ((rule.clip[0] - low) / step, (rule.clip[1] - low) / step) if rule.clip else None
    return steps, Normalisation(rule.scale * step, rule.offset + low * rule.scale, clip, rule.outside)


def _grid_json(grid: Grid) -> dict:
    return {
        "size": list(grid.size),
        "spacing": list(grid.spacing),
        "origin": list(grid.origin),
        "direction": list(grid.direction),
    }
