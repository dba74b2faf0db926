#!/usr/bin/env python3
"""Registration against known truth: target registration error, folding, time and memory for every method and case.

A case is a directory with ``mr.mha`` or ``cbct.mha`` (fixed), ``ct.mha`` (moving), ``mask.mha`` (fixed mask) and
``truth/landmarks.csv``; cases are found as CASES/mr/* and CASES/cbct/*. Each registration is a process of its own
(``bin/register.py``), so that time and memory are its own; the landmarks are read afterwards. Results are kept in
--out and reused, so that a long baseline runs once. With --stored the moving image is first stored another way: its
axes in another order (RAS, PIL ...), turned obliquely (oblique), or in slices twice as thick (thick). With --turn and
--shift it lies elsewhere, and the landmarks' moving points with it: a misalignment of known answer.

On real pairs the known deformation is not all that lies between the images: MR and CT are two examinations. With
--native DATA (DATA/<case>/ct.mha, the CT before it was deformed) that residual r is measured, and an error is against
T(x + r(x)) in the place of T(x), T being truth/displacement.mha: "corrected" with the mean r of two engines, and "own"
with that of the method itself, which asks how much of the known deformation was found and nothing about the residual.

Errors are in mm: mean, median and 95th percentile over the landmarks, the mean over the tenth of them where the CT's
gradient is strongest ("edges"), and over those further than 20 mm from the mask's end slices ("middle").
"""

import csv
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import click
import matplotlib
import numpy as np
import SimpleITK as sitk

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TOOL = Path(__file__).resolve().parents[1] / "bin" / "register.py"
ENDS_MM = 20.0
PEERS = ("ants", "convexadam")  # as methods: benchmarks/peers.py, in an environment that has them
COLOURS = {"none": "0.75", "elastix": "#D55E00", "impact": "#0072B2", "mi": "#56B4E9", "mind": "#CC79A7"}
COLUMNS = (
    "modality",
    "case",
    "method",
    "mean",
    "median",
    "p95",
    "edges",
    "middle",
    "corrected",
    "own",
    "folding",
    "seconds",
    "cpu_seconds",
    "mib",
)


@click.command(help=__doc__)
@click.argument("cases", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--methods", default="none,elastix,mi,mind", help="comma list of arms, and of ants, convexadam")
@click.option("--only", default="", help="comma list of parts of case names")
@click.option("--preset", default="paper")
@click.option("--set", "overrides", multiple=True, help="section.key=value, handed to register.py")
@click.option("--stored", default="", help="how the moving image is stored: RAS, PIL ..., oblique, thick")
@click.option("--shift", nargs=3, type=float, default=(0.0, 0.0, 0.0), help="x y z, mm, LPS: the moving image's header")
@click.option("--turn", nargs=3, type=float, default=(0.0, 0.0, 0.0), help="degrees about x y z, of its middle, before")
@click.option("--threads", type=click.IntRange(1), help="of a registration; default: what the environment says")
@click.option("--native", type=click.Path(exists=True, file_okay=False, path_type=Path), help="for corrected errors")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="directory of results, tables and figure")
def main(cases, methods, only, preset, overrides, stored, shift, turn, threads, native, out):
    if threads:
        os.environ["OMP_NUM_THREADS"] = os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = str(threads)
    rows = []
    for directory in sorted([*cases.glob("mr/*"), *cases.glob("cbct/*")]):
        if only and not any(part in directory.name for part in only.split(",")):
            continue
        for method in methods.split(","):
            rows.append(_measure(directory, method, preset, overrides, stored, (turn, shift), native, out))
            print(_line(rows[-1]), flush=True)
    if not rows:
        raise click.ClickException(f"{cases}: no case in it (expected mr/* or cbct/*)")
    with open(out / "registration.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(_summary(rows))
    _figure(rows, out / "registration.png")


def _measure(
    directory: Path,
    method: str,
    preset: str,
    overrides,
    stored: str,
    moves: tuple[tuple, tuple],
    native: Path | None,
    out: Path,
) -> dict:
    modality = directory.parent.name
    place = out / method / f"{modality}_{directory.name}"
    place.mkdir(parents=True, exist_ok=True)
    fixed, moving, mask = (directory / f"{name}.mha" for name in (modality, "ct", "mask"))
    image = sitk.ReadImage(str(moving))
    move = move_of(image, *moves)
    if stored or any(map(any, moves)):
        image.SetOrigin(move.TransformPoint(image.GetOrigin()))
        image.SetDirection((_matrix(move) @ np.reshape(image.GetDirection(), (3, 3))).ravel())
        sitk.WriteImage(_stored(image, stored) if stored else image, str(place / "ct.nii.gz"))
        moving = place / "ct.nii.gz"
    _registered(place, method, modality, fixed, moving, mask, preset, overrides, f"{stored} {moves}")
    run = json.loads((place / "run.json").read_text())
    quality = json.loads((place / "qc.json").read_text())
    landmarks = np.loadtxt(directory / "truth" / "landmarks.csv", delimiter=",", skiprows=1)
    landmarks[:, 3:] = each(move, landmarks[:, 3:])
    mapped = _mapped(place / "displacement.mha", landmarks[:, :3])
    error = np.linalg.norm(mapped - landmarks[:, 3:], axis=1)
    edges = _gradient(moving, landmarks[:, 3:])
    points, as_filed = landmarks[:, :3], each(move.GetInverse(), mapped)
    paired = native is not None and (native / directory.name / "ct.mha").is_file()

    def apart(partners: np.ndarray) -> float:
        return float(np.linalg.norm(as_filed - partners, axis=1).mean())

    return {
        "modality": modality,
        "case": directory.name,
        "method": method,
        "mean": error.mean(),
        "median": np.median(error),
        "p95": np.percentile(error, 95),
        "edges": error[edges >= np.quantile(edges, 0.9)].mean(),
        "middle": error[_from_ends(mask, landmarks[:, :3]) > ENDS_MM].mean(),
        "corrected": apart(_between_engines(directory, native, out, points)) if paired else math.nan,
        "own": apart(_partners(directory, native, out, method, preset, overrides, points)) if paired else math.nan,
        "folding": quality["folding_fraction"],
        "seconds": run["seconds"],
        "cpu_seconds": run["cpu_seconds"],
        "mib": quality["memory_mib"],
    }


def _registered(place: Path, method: str, modality: str, fixed, moving, mask, preset: str, overrides, moved: str = ""):
    """One run of the tool, kept in `place`; one with other options is refused there."""
    tool = TOOL if method not in PEERS else Path(__file__).with_name("peers.py")
    command = [sys.executable, tool, "--method", method, "--fixed", fixed, "--moving", moving, "--fixed-mask", mask]
    command += ["--out-displacement", place / "displacement.mha", "--qc", place / "qc.json"]
    if method not in PEERS:
        command += ["--modality", modality, "--preset", preset, "--moving-is", "ct", "--out-image", place / "image.mha"]
        command += [part for override in overrides for part in ("--set", override)]
    asked = {"command": list(map(str, command[2:])), "moved": moved}
    if (place / "run.json").is_file():
        if json.loads((place / "run.json").read_text())["asked"] != asked:
            raise click.ClickException(f"{place}: holds a run with other options; give another --out")
        return
    place.mkdir(parents=True, exist_ok=True)
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(list(map(str, command)), check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    spent = {"seconds": time.perf_counter() - start, "cpu_seconds": cpu}
    (place / "run.json").write_text(json.dumps({**spent, "asked": asked}))


def move_of(image: sitk.Image, turn, shift) -> sitk.Euler3DTransform:
    """The rigid move of --turn and --shift."""
    return move_about(
        image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()]), turn, shift
    )


def move_about(centre, turn, shift) -> sitk.Euler3DTransform:
    """A turn (degrees about x, y, z) about `centre`, and then a shift (mm)."""
    move = sitk.Euler3DTransform()
    move.SetCenter(centre)
    move.SetRotation(*np.radians(turn).tolist())
    move.SetTranslation(shift)
    return move


def _matrix(move) -> np.ndarray:
    return np.reshape(move.GetMatrix(), (3, 3))


def each(move, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) through a transform."""
    return np.array([move.TransformPoint(point) for point in points.tolist()])


def _mapped(displacement: Path, points: np.ndarray) -> np.ndarray:
    """Points (n, 3) through a displacement field's file."""
    transform = sitk.DisplacementFieldTransform(sitk.ReadImage(str(displacement), sitk.sitkVectorFloat64))
    return each(transform, points)


def _between_engines(directory: Path, native: Path, out: Path, points: np.ndarray) -> np.ndarray:
    """T(x + r(x)) of points (n, 3), the mean over two engines' residuals r."""
    engines = (("mi", "paper"), ("elastix", "test"))  # Elastix shortened: it has to say a few mm only
    partners = [_partners(directory, native, out, method, preset, (), points) for method, preset in engines]
    (out / "residual").mkdir(exist_ok=True)
    table = np.hstack([points, np.mean(partners, axis=0)])  # for benchmarks/networks.py --corrected
    np.savetxt(out / "residual" / f"{directory.name}.csv", table, "%.3f", ",")
    return table[:, 3:]


def _partners(directory: Path, native: Path, out: Path, method: str, preset: str, overrides, points) -> np.ndarray:
    """T(x + r(x)) of points (n, 3), r what a method finds on the pair as its files lie, before the CT was deformed."""
    modality = directory.parent.name
    place = out / "native" / "_".join((method, Path(preset).stem, *["set"] * bool(overrides))) / directory.name
    images = (directory / f"{modality}.mha", native / directory.name / "ct.mha", directory / "mask.mha")
    _registered(place, method, modality, *images, preset, overrides)
    return _mapped(directory / "truth" / "displacement.mha", _mapped(place / "displacement.mha", points))


def _stored(image: sitk.Image, how: str) -> sitk.Image:
    """The same anatomy on another grid."""
    if how == "thick":
        smooth = sitk.BoxMean(sitk.Cast(image, sitk.sitkFloat32), (0, 0, 1))
        return sitk.Cast(sitk.Round(smooth[:, :, ::2]), image.GetPixelID())
    if how != "oblique":
        return sitk.DICOMOrient(image, how)
    turn = sitk.Euler3DTransform()
    turn.SetRotation(0.25, 0.1, 0.35)  # about 14, 6 and 20 degrees
    axes = _matrix(turn)
    size, spacing = [int(1.2 * n) for n in image.GetSize()], np.array(image.GetSpacing())
    middle = image.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in image.GetSize()])
    origin = np.array(middle) - axes @ (spacing * (np.array(size) - 1) / 2)
    outside = float(sitk.GetArrayViewFromImage(image).min())
    return sitk.Resample(
        image,
        size,
        sitk.Transform(),
        sitk.sitkBSpline,
        origin.tolist(),
        spacing.tolist(),
        axes.ravel().tolist(),
        outside,
    )


def _gradient(path: Path, points: np.ndarray) -> np.ndarray:
    """Gradient magnitude (HU/mm) of the CT, smoothed by 2 mm, at points."""
    image = sitk.GradientMagnitudeRecursiveGaussian(sitk.ReadImage(str(path), sitk.sitkFloat32), 2.0)
    index = [image.TransformPhysicalPointToIndex(point) for point in points.tolist()]
    high = np.array(image.GetSize()) - 1
    return np.array([image[np.clip(i, 0, high).tolist()] for i in index])


def _from_ends(path: Path, points: np.ndarray) -> np.ndarray:
    """Distance (mm) of points (n, 3) from the nearer of a mask's end slices."""
    mask = sitk.ReadImage(str(path))
    slices = np.flatnonzero(sitk.GetArrayViewFromImage(mask).any((1, 2)))
    index = np.array([mask.TransformPhysicalPointToContinuousIndex(point) for point in points.tolist()])[:, 2]
    return np.minimum(index - slices[0], slices[-1] - index) * mask.GetSpacing()[2]


def _line(row: dict) -> str:
    return (
        f"| {row['case']} | {row['method']} | {row['mean']:.2f} / {row['median']:.2f} / {row['p95']:.2f} "
        f"| {row['edges']:.2f} | {row['middle']:.2f} | {row['corrected']:.2f} | {row['own']:.2f} "
        f"| {100 * row['folding']:.3f} % | {row['seconds']:.0f} | {row['cpu_seconds']:.0f} "
        f"| {row['mib']} |"
    )


def _summary(rows: list[dict]) -> str:
    lines = []
    for modality in sorted({row["modality"] for row in rows}):
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["modality"] == modality and row["method"] == method]
            if own:
                mean = {key: float(np.mean([row[key] for row in own])) for key in COLUMNS[3:]}
                lines.append(
                    _line(
                        {
                            "case": f"**{modality}, mean of {len(own)}**",
                            "method": method,
                            **mean,
                            "mib": round(mean["mib"]),
                        }
                    )
                )
    return "\n".join(lines)


def _figure(rows: list[dict], path: Path):
    names = list(dict.fromkeys(row["case"] for row in rows))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    figure, axis = plt.subplots(figsize=(max(6, 0.6 * len(names) + 2), 4))
    for number, method in enumerate(methods):
        own = {row["case"]: row["mean"] for row in rows if row["method"] == method}
        places = [k + (number - (len(methods) - 1) / 2) * 0.8 / len(methods) for k, n in enumerate(names) if n in own]
        axis.bar(places, list(own.values()), 0.8 / len(methods), label=method, color=COLOURS.get(method))
    axis.set_xticks(range(len(names)), names, rotation=60, ha="right")
    axis.set_ylabel("mean landmark error (mm)")
    axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
