#!/usr/bin/env python3
"""Our sampled metric beside PyPI itk-impact's: value and derivative on the same images, points and extractor.

    .venv/bin/python benchmarks/impact_parity.py --impact PYTHON [--case DIRECTORY] [--write FILE]

PYTHON is the interpreter of an environment of its own with itk-impact==0.1.6 (and its torch 2.12). Without --case the
images are the phantom of tests/parity_cases.py, with it a crop of the case's cbct.mha or mr.mha (fixed) and ct.mha
(moving). The transform is a cubic B-spline with control points of up to 3 mm. --write keeps itk-impact's numbers for
tests/registration/test_impact_parity.py (without --case, or with --network).

--network M730_2_Layers.pt, with --case: the real network of the paper's CBCT recipe. That export normalises nothing,
and neither does itk-impact, so both sides get the crop less its mean, over its sigma.
"""

import json
import subprocess
import tempfile
from dataclasses import asdict
from pathlib import Path

import sys  # isort: skip

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "tests")]

import click  # noqa: E402
import numpy as np  # noqa: E402
from parity_cases import OFFSET, Case, Scene, cases, crop, phantom, real_cases, write_scripts  # noqa: E402

from synthct.images.grid import Grid  # noqa: E402
from synthct.images.volume import write_volume  # noqa: E402

SIZE = (40, 36, 20)  # voxels (x, y, z) of a real case's crop
REAL = (48, 48, 32)  # for the real network: 60 x 60 x 48 points of 2 mm, which its stride divides


@click.command(help=__doc__)
@click.option("--impact", required=True, help="interpreter with itk-impact")
@click.option("--case", "directory", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--network", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="M730_2_Layers.pt")
@click.option("--voxel", default=2.0, show_default=True, help="mm of the features' voxels")
@click.option("--only", default="", help="only comparisons with this in their name")
@click.option("--write", "kept", type=click.Path(dir_okay=False, path_type=Path))
def main(impact, directory, network, voxel, only, kept):
    wanted = [case for case in (real_cases() if network else cases(voxel)) if only in case.name]
    if directory:
        scenes = {Grid.direction: Scene(*crop(directory, REAL if network else SIZE, standard=bool(network)))}
        wanted = [case for case in wanted if case.direction in scenes]
    else:
        scenes = {case.direction: Scene(*phantom(case.direction)) for case in wanted}
    with tempfile.TemporaryDirectory() as place:
        scripts = write_scripts(Path(place)) | {"m730": network}
        theirs = _theirs(impact, scenes, wanted, scripts, Path(place))
        print("| mode, distance | value, ours | itk-impact | relative difference | derivative: cosine | norm |")
        print("|---|---|---|---|---|---|")
        for case, other in zip(wanted, theirs, strict=True):
            print(_row(case, scenes[case.direction].ours(case, scripts), other), flush=True)
    if kept:
        rounded = [
            {"case": asdict(case), "value": r["value"], "derivative": [float(f"{d:.7g}") for d in r["derivative"]]}
            for case, r in zip(wanted, theirs, strict=True)
        ]
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(json.dumps({"itk-impact": "0.1.6", "results": rounded}) + "\n", encoding="utf-8")


def _theirs(python: str, scenes: dict, wanted: list[Case], scripts: dict[str, Path], place: Path) -> list[dict]:
    jobs = []
    for number, (direction, scene) in enumerate(scenes.items()):
        paths = {name: str(place / f"{name}{number}.mha") for name in ("fixed", "moving")}
        for name, path in paths.items():
            write_volume(getattr(scene, name), path)
        transform = scene.control.to_sitk(scene.coefficients, scene.fixed.grid)
        own = {
            "points": scene.world().tolist(),
            "fixed_parameters": list(transform.GetFixedParameters()),
            "parameters": list(transform.GetParameters()),
        }
        jobs += [(case, paths | own) for case in wanted if case.direction == direction]
    jobs.sort(key=lambda job: wanted.index(job[0]))
    jobs = [
        asdict(case)
        | own
        | {
            "model": str(scripts[case.extractor]),
            "mask": case.mask,
            "layer_weights": case.layer_weights,
        }
        for case, own in jobs
    ]
    (place / "jobs.json").write_text(json.dumps(jobs), encoding="utf-8")
    tool = Path(__file__).with_name("impact_itk.py")
    subprocess.run([python, tool, place / "jobs.json", place / "results.json"], check=True)
    return json.loads((place / "results.json").read_text(encoding="utf-8"))


def _row(case: Case, ours: dict, theirs: dict) -> str:
    if "error" in theirs:
        return f"| {case.name} | {ours['value']:.6f} | {theirs['error']} | – | – | – |"
    value = ours["value"] + OFFSET.get(case.distance, 0.0) * sum(case.layer_weights)
    a, b = np.array(ours["derivative"]), np.array(theirs["derivative"])
    cosine = float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    return (
        f"| {case.name} | {value:.6f} | {theirs['value']:.6f} | {value / theirs['value'] - 1:.1e} | "
        f"1 − {1 - cosine:.1e} | {np.linalg.norm(a) / np.linalg.norm(b) - 1:.1e} |"
    )


if __name__ == "__main__":
    main()
