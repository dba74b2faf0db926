#!/usr/bin/env python3
"""Judge synthetic CTs by dose: a plan is optimised on the CT, and its fluence calculated anew on each sCT.

For photons and protons: MAE of the dose (part of the prescription), the challenge's DVH metric, the gamma pass rate
(%), and for protons the shift of the range (mm, above 0: farther on the sCT). Without --target the plan treats a
standard ellipsoid where the body is thickest. The CT may lie on a grid of its own; it is not registered. With
--members the lowest and highest of each over the networks of an ensemble.
"""

from pathlib import Path

import click
import SimpleITK as sitk

from synthct.core import presets
from synthct.core.cli import cpu_threads, tool
from synthct.core.digests import inputs_of
from synthct.core.errors import PatientError
from synthct.core.files import plain, write_json
from synthct.dose.case import about, plan_case
from synthct.dose.inputs import aim_of, body_of, organs_of, scts_of
from synthct.dose.members import judged, members_in
from synthct.dose.options import dose_options, kinds_of, require_names, require_one_each, with_tables
from synthct.dose.outputs import identities, write_doses, write_failures, write_slices
from synthct.images.volume import read_volume


@tool("dose.py", help=__doc__)
@dose_options
def main(ct, scts, mask, target, structures, beams, region, preset, settings, overrides, tables, outs, slices, **asked):
    each = {"trained-on": asked["trained"], "checkpoint": asked["checkpoints"], "members": asked["members"]}
    require_one_each(len(scts), {"out": outs, "slices": slices, **each})
    require_names(outs if asked["doses"] else ())
    members = [members_in(directory) for directory in asked["members"]]
    kinds = kinds_of(beams)
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(cpu_threads())
    section = presets.section("dose", settings=settings, preset=preset, modality="mr", overrides=overrides)
    section = with_tables(presets.for_region(section, region), tables)
    said = {key: asked[key] for key in ("patient", "tested_on", "trained", "checkpoints")}
    read = inputs_of(ct=ct, mask=mask, target=target, structures=structures)
    names = identities(len(scts), region=region, **said)
    told = [{**name, "inputs": read} for name in names]
    try:
        planned_on = read_volume(ct, "CT", "ct")
        aim, aim_name = aim_of(target, asked["target_roi"], planned_on)
        given = scts_of(scts, asked["record_failure"])
        body, organs = body_of(mask, planned_on), organs_of(structures, planned_on, aim_name)
        case = plan_case(planned_on, body, section, beams=kinds, target=aim, target_name=aim_name, structures=organs)
    except PatientError as fault:
        return write_failures(fault, asked["record_failure"], told, outs)
    planned, first = about(case), True
    for number, (name, sct, out) in enumerate(zip(names, given, outs, strict=True)):
        try:
            record, doses = judged(case, sct, members[number] if members else {})
        except PatientError as fault:
            write_failures(fault, asked["record_failure"], told[number : number + 1], [out])
            continue
        if (seen := record["sct_coverage"]) < 1:
            click.echo(f"dose.py: note: {out}: the sCT covers {seen:.1%} of the body, the rest counts as air", err=True)
        if asked["doses"]:
            write_doses(case, doses, asked["doses"], ct, Path(out).stem, first=first)
            first = False
        if slices:
            write_slices(slices[number], case, doses, name)
        write_json(out, plain({**told[number], **planned, **record}))


if __name__ == "__main__":
    main()
