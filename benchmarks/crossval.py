#!/usr/bin/env python3
"""Every patient held out once: the study's trainings and predictions over outer folds, on a GPU, in minutes.

    crossval.py COHORT --modality cbct --preset benchmarks/study/crossval.toml --arms truth,mind,elastix \
        --outer 5 --inner 4 --device cuda --jobs 8 --out DIR

COHORT is made by crossval_cohort.py: sheet.csv (patient, region), given/<patient>/{image,mask}.mha as the clinic has
them, and for each arm <arm>/<patient>/{ct,mask}.mha, beside image.mha where the arm deforms the image. The outer folds
hold out each patient once; on the others an ensemble of inner folds is trained, as the pipeline does on its one split:
its functions, in worker processes that share the device, since a tool's start takes longer here than what it does.

Into DIR: sct/<trained>/[on_<tested>/]<patient>.mha, and scores/<trained>__<outer>.json: for each held-out patient and
tested arm the image metrics with the spread of the ensemble, and with --spoil what the word on trust measures of the
image as it is and spoilt in each way of trust.py. Written as they come, the arms of one outer fold after the other.
"""

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "bin"), str(ROOT / "benchmarks")]

import click  # noqa: E402
import trust as spoilt  # noqa: E402

from synthct.cases.pair import make_case  # noqa: E402
from synthct.cohort import folds  # noqa: E402
from synthct.core import presets  # noqa: E402
from synthct.core.device import repeatable  # noqa: E402
from synthct.core.files import plain, write_json  # noqa: E402
from synthct.evaluation.pair import evaluate  # noqa: E402
from synthct.images.volume import read_mask, read_volume, write_volume  # noqa: E402
from synthct.prediction import assembly, inference, trust  # noqa: E402
from synthct.training.options import carry_out  # noqa: E402
from synthct.training.setup import Request  # noqa: E402


@click.command(help=__doc__.split("\n")[0])
@click.argument("cohort", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--modality", type=click.Choice(presets.MODALITIES), required=True)
@click.option("--preset", required=True)
@click.option("--set", "overrides", multiple=True, help="section.key=value")
@click.option("--arms", required=True, help="comma list of arms to train and to test on")
@click.option("--outer", default=5, show_default=True)
@click.option("--inner", default=4, show_default=True)
@click.option("--spoil", default="", help="comma list of arms whose bundles also see spoilt images")
@click.option("--device", default="cuda", show_default=True)
@click.option("--jobs", default=8, show_default=True)
@click.option("--seconds", default=1e9, help="no ensemble is begun after so many")
@click.option("--out", required=True, type=click.Path(path_type=Path))
def main(cohort, modality, preset, overrides, arms, outer, inner, spoil, device, jobs, seconds, out):
    began, arms = time.time(), arms.split(",")
    tree = presets.resolve(preset, modality, overrides)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "settings.json", plain(tree))
    patients = folds.read_sheet(cohort / "sheet.csv")
    seed = tree["folds"]["seed"]
    held = folds.stratified_folds(patients, outer, seed)
    for number, test in enumerate(held):
        rest = [one for one in patients if one.name not in test]
        plan = folds.plan(rest, folds=inner, holdout="0", seed=seed)
        write_json(out / f"folds_{number}.json", plan | {"test": test})
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        pairs = [(cohort, out, tree, modality, arm, one) for arm in arms for one in patients]
        list(pool.map(_case, pairs))
        print(f"{len(pairs)} cases after {time.time() - began:.0f} s", flush=True)
        asked = [(arm, number) for number in range(outer) for arm in arms]
        running = {}
        for arm, number in asked:
            task = (cohort, out, arm, number, arms, arm in spoil.split(","), device, began + seconds)
            running[pool.submit(_ensemble, task)] = arm, number
        for done in as_completed(running):
            arm, number = running[done]
            print(f"{time.time() - began:4.0f} s: {arm}, outer fold {number}: {done.result()}", flush=True)


def _case(task):
    cohort, out, tree, modality, arm, one = task
    make_case(
        out / "cases" / arm / one.name,
        image=_image(cohort, arm, one.name),
        ct=cohort / arm / one.name / "ct.mha",
        mask=cohort / arm / one.name / "mask.mha",
        modality=modality,
        rules=tree["preprocessing"],
        labels={"patient": one.name, "region": one.region, "center": one.center, "arm": arm},
        warn=lambda line: print(line, file=sys.stderr),
    )


def _image(cohort: Path, arm: str, patient: str) -> Path:
    """The arm's own image where it deforms it, or else the given one."""
    own = cohort / arm / patient / "image.mha"
    return own if own.exists() else cohort / "given" / patient / "image.mha"


def _ensemble(task) -> str:
    """Train the inner folds of one arm and outer fold, and predict and score who is held out."""
    cohort, out, arm, outer, arms, spoil, device, end = task
    if time.time() > end:
        return "not begun, for time"
    began, plan_file = time.time(), out / f"folds_{outer}.json"
    plan, settings = json.loads(plan_file.read_text()), out / "settings.json"
    models = []
    for fold in range(len(plan["folds"])):
        models.append(out / "models" / arm / str(outer) / str(fold))
        about = {"arm": arm, "settings": str(settings), "device": device, "out": models[-1]}
        carry_out(Request(cases=[out / "cases" / arm], folds=plan_file, fold=str(fold), **about))
    trained = time.time()
    bundle = assembly.from_study(
        models, out / "bundles" / f"{arm}_{outer}", settings=settings, arm=arm, cohort=plan_file
    )
    chosen = bundle.about["inference"]
    where = repeatable(device, tf32=chosen["precision"] == "tf32")
    group, kind = bundle.group_for(None)[0], presets.checkpoints(chosen["checkpoint"])[0]
    networks = [
        inference.ready(network, chosen["graph"], chosen["precision"])
        for network in bundle.networks(group, kind, where)
    ]
    regions = {one.name: one.region for one in folds.read_sheet(cohort / "sheet.csv")}
    told = {}
    for patient in plan["test"]:
        told[patient] = _held_out(cohort, out, bundle, networks, arm, arms, patient, regions[patient], spoil)
    write_json(out / "scores" / f"{arm}__{outer}.json", plain({"trained_on": arm, "outer": outer, "patients": told}))
    return f"{len(models)} networks in {trained - began:.0f} s, then {time.time() - trained:.0f} s"


def _held_out(cohort, out, bundle, networks, arm, arms, patient, region, spoil) -> dict:
    about = bundle.about
    rules = presets.for_region(about["preprocessing"], region)

    def predicted(image, mask):
        return inference.predict_by(about, about["inference"], networks, image, mask, region)

    given = read_volume(cohort / "given" / patient / "image.mha")
    body = read_mask(cohort / "given" / patient / "mask.mha", given.grid)
    as_given = predicted(given, body)
    write_volume(as_given.sct, out / "sct" / arm / f"{patient}.mha")
    told = {"region": region, "tested": {}}
    for tested in arms:
        pair = cohort / tested / patient
        ct = read_volume(pair / "ct.mha")
        mask = read_mask(pair / "mask.mha", ct.grid)
        result = as_given
        if (pair / "image.mha").exists():
            result = predicted(read_volume(pair / "image.mha"), mask)
            write_volume(result.sct, out / "sct" / arm / f"on_{tested}" / f"{patient}.mha")
        told["tested"][tested] = evaluate(result.sct.array, ct.array, mask.array, uncertainty=result.uncertainty.array)
        if tested == arm:  # what a study's own test teaches
            told["trust"] = trust.measured(given, body, as_given, rules, about["modality"])
            told["trust"]["mae_hu"] = told["tested"][tested]["mae"]
    if spoil:
        ct = read_volume(cohort / arm / patient / "ct.mha")
        told["spoilt"] = {
            kind: trust.measured(image, mask, predicted(image, mask), rules, about["modality"])
            | {"wrong": trust.wrong_modality(image, about["modality"])}
            for kind, (image, mask) in spoilt.failures(given, body, ct).items()
        }
    return told


if __name__ == "__main__":
    main()
