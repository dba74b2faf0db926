#!/usr/bin/env python3
"""Predict the synthetic CT of one image, or of a list of patients with the networks loaded once.

The sCT (int16 HU) and its uncertainty (float32 HU, standard deviation over views and folds) lie on the input's own
grid, whatever its spacing and orientation; outside the mask the sCT is -1024 and the uncertainty 0.
"""

import sys
from pathlib import Path

import click

from synthct.core.cli import tool
from synthct.core.device import repeatable
from synthct.core.errors import InputError
from synthct.core.files import plain, write_json
from synthct.core.records import KIND
from synthct.prediction import patients
from synthct.prediction.bundle import read_bundle
from synthct.prediction.options import patient_of, predict_options, settings_of


@tool("predict.py", help=__doc__)
@predict_options
def main(
    model, sheet, outdir, record_failures, summary, modality, settings, overrides, checkpoint, device, batch, **asked
):
    bundle = read_bundle(model, modality)
    chosen = settings_of(bundle, settings, overrides, checkpoint, batch)
    if sheet:
        if not outdir or asked["image"] or asked["out"]:
            raise InputError("--list goes with --outdir, and without --image and --out")
        listed = patients.listed(sheet, outdir, patient_of(asked, "", outdir))
        summary = summary or str(Path(outdir, "patients.json"))
    else:
        if not asked["image"] or not asked["out"]:
            raise InputError("give --image and --out, or --list and --outdir")
        listed = [patient_of(asked, asked["image"], asked["out"])]
    if record_failures and not sheet:
        raise InputError("--record-failures goes with --list")
    faults = {} if sheet else None
    where = repeatable(device, tf32=chosen["precision"] == "tf32")
    told = patients.origins(bundle, listed, chosen) if summary else {}  # before: as they were when they were read
    reports = patients.predict_all(bundle, listed, chosen, where, faults)
    if summary:
        told |= {KIND: "prediction", "place": asked["place"], "device": str(where)}
        told |= {"inference": chosen, "patients": reports} | ({"failed": faults} if record_failures else {})
        write_json(summary, plain(told))
    if record_failures:
        for patient, fault in faults.items():
            click.echo(f"predict.py: not predicted: {patient}: {' '.join(fault.split())}", err=True)
    elif faults:
        for patient, fault in faults.items():
            click.echo(f"predict.py: error: {patient}: {' '.join(fault.split())}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
