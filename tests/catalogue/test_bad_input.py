"""A catalogue of bad input: for each kind the exit status, one line that names the culprit, and nothing left behind.

`python tests/catalogue/test_bad_input.py` prints it as a table (kind, line, exit status).
"""

# ruff: noqa: E501
import gzip
import hashlib
import io
import json
import os
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

sys.path[:0] = [
    str(Path(__file__).parent),
    *(str(Path(__file__).resolve().parents[n] / d) for n, d in ((1, ""), (2, "bin"))),
]
from models import call  # noqa: E402
from raw import mha, nii, nrrd  # noqa: E402

from synthct.core import presets  # noqa: E402
from synthct.prediction.bundle import _digest  # noqa: E402

HEAD = "patient,region,center,image,ct,mask,split\n"
ROWS = "".join(f"P{n},AB,A,i.mha,c.mha,m.mha,\n" for n in range(4))
SHAPE = (6, 30, 32)
CT = np.random.default_rng(0).normal(0, 40, SHAPE).round()
CT[:, :4] = -1000
CT = CT.astype(np.int16)
MR = np.where(CT > -500, 300 + CT, 0).astype(np.int16)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1:5, 8:26, 6:28] = 1
SMOOTH = np.add.outer(np.add.outer(np.arange(6) * 5, np.arange(30) * 7), np.arange(32) * 9).astype(np.int16) + 3
RAW, PACKED = MR.tobytes(), zlib.compress(MR.tobytes())


def image(array, path, compress=False, **changes):
    made = sitk.GetImageFromArray(array)
    made.SetSpacing((1.0, 1.0, 3.0))
    sitk.WriteImage(made, str(path), compress)
    data = path.read_bytes()
    for old, new in changes.get("replace", ()):
        assert old in data, old
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


def folds(here, data, *more):
    (here / "sheet.csv").write_bytes(data if isinstance(data, bytes) else data.encode())
    common = ["--sheet", here / "sheet.csv", "--preset", "test", "--set", "folds.holdout=0"]
    return call("folds.py", *common, "--out", here / "out" / "folds.json", *more)


def listed(here, *texts):
    given = []
    for number, text in enumerate(texts):
        (here / f"list{number}.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
        given += ["--list", here / f"list{number}.txt"]
    return folds(here, (HEAD + ROWS).encode(), *given)


def excluded(here, data):
    (here / "excluded.csv").write_bytes(data)
    return folds(here, (HEAD + ROWS).encode(), "--excluded", here / "excluded.csv")


def curate(here, record, *more, exclude=None):
    (here / "qc").mkdir()
    (here / "qc" / "P1.json").write_text(record)
    if exclude is not None:
        (here / "exclude.txt").write_bytes(exclude)
        more += ("--exclude", here / "exclude.txt")
    outs = ("--out-kept", here / "out" / "kept.csv", "--out-excluded", here / "out" / "excluded.csv")
    return call("curate.py", "--qc", here / "qc", "--preset", "test", *outs, *more)


def preset(here, text, *more):
    (here / "own.toml").write_text(text)
    (here / "sheet.csv").write_text(HEAD + ROWS)
    common = ["--sheet", here / "sheet.csv", "--modality", "mr", "--preset", here / "own.toml"]
    return call("check.py", *common, *more, "--out", here / "out" / "settings.json")


def setting(here, text):
    return preset(here, 'inherit = "test"\n', "--set", text)


def case(here, what="image", array=None, name=None, raw=None, modality="mr", compress=False, **changes):
    """preprocess.py with one of image, ct and mask replaced by something bad."""
    paths = {"image": here / "image.mha", "ct": here / "ct.mha", "mask": here / "mask.mha"}
    for key, given in (("image", MR if modality == "mr" else CT), ("ct", CT), ("mask", MASK)):
        image(given, paths[key])
    paths[what] = here / (name or f"bad_{what}.mha")
    if raw is not None:
        paths[what].write_bytes(raw)
    elif array is not None or changes:
        whole = {"image": MR, "ct": CT, "mask": MASK}[what]
        image(whole if array is None else array, paths[what], compress, **changes)
        if cut := changes.get("cut"):
            paths[what].write_bytes(paths[what].read_bytes()[: -int(cut)])
        if "flip" in changes:
            data = bytearray(paths[what].read_bytes())
            data[len(data) // 2] ^= 16
            paths[what].write_bytes(data)
    given = [part for key, path in paths.items() for part in (f"--{key}", path)]
    return call("preprocess.py", "--modality", modality, *given, "--preset", "test", "--out", here / "out" / "case")


def some(array, value, kind=np.float32):
    array = array.astype(kind)
    array[2, 10, 10] = value
    return array


def directory(here, **files):
    place = here / "series"
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(data)
    return case(here, "image", name="series")


def bundle(here, text):
    (here / "model").mkdir()
    if text is not None:
        (here / "model" / "bundle.json").write_text(text)
    image(MR, here / "image.mha")
    image(MASK, here / "mask.mha")
    given = ["--model", here / "model", "--image", here / "image.mha", "--mask", here / "mask.mha"]
    return call("predict.py", *given, "--region", "AB", "--out", here / "out" / "sct.mha")


def made(here, weights=b"x", **changes):
    """A bundle whose bundle.json has its right digest, whatever `changes` make of it; `weights` is its one file."""
    settings = presets.resolve("test", "mr")
    about = {
        "format": 1,
        "preset": "test",
        "modality": "mr",
        "channels": 3,
        "network": {"encoder": "resnet18", "decoder_channels": [8, 8, 8, 8, 8]},
        "preprocessing": settings["preprocessing"],
        "inference": settings["inference"],
        "groups": {"global": {"regions": ["AB"], "best": ["w.safetensors"], "final": []}},
        "default_region": "AB",
        "files": {"w.safetensors": hashlib.sha256(weights).hexdigest()},
    } | changes
    about["digest"] = _digest(about)
    (here / "model").mkdir()
    (here / "model" / "w.safetensors").write_bytes(weights)
    (here / "model" / "bundle.json").write_text(json.dumps(about))
    image(MR, here / "image.mha")
    image(MASK, here / "mask.mha")
    given = ["--model", here / "model", "--image", here / "image.mha", "--mask", here / "mask.mha"]
    return call("predict.py", *given, "--region", "AB", "--out", here / "out" / "sct.mha")


def foreign(file):
    """A bundle that names a file outside of it, whose SHA-256 is right."""
    groups = {"global": {"regions": ["AB"], "best": [file], "final": []}}
    return lambda here: made(here, groups=groups, files={file: "0" * 64})


def program():
    """A checkpoint whose unpickling would run a command."""

    class Evil:
        def __reduce__(self):
            return os.system, ("touch pwned",)

    data = io.BytesIO()
    torch.save({"a": Evil()}, data)
    return data.getvalue()


def predicted(here, text):
    """predict.py --list with `text` as its list."""
    (here / "list.csv").write_text(text)
    image(MR, here / "i.mha")
    (here / "model").mkdir()
    settings = presets.resolve("test", "mr")
    about = {"format": 1, "preset": "test", "modality": "mr", "channels": 3, "default_region": "AB"}
    about |= {"network": {"encoder": "resnet18", "decoder_channels": [8, 8, 8]}, "files": {"w.safetensors": "0" * 64}}
    about |= {key: settings[key] for key in ("preprocessing", "inference")}
    about["groups"] = {"global": {"regions": ["AB"], "best": ["w.safetensors"], "final": []}}
    about["digest"] = _digest(about)
    (here / "model" / "w.safetensors").write_bytes(b"x")
    (here / "model" / "bundle.json").write_text(json.dumps(about))
    return call("predict.py", "--model", here / "model", "--list", here / "list.csv", "--outdir", here / "out" / "o")


def written(here, out, *more, data=HEAD + ROWS):
    """folds.py with its --out at `out`, below the place of the test."""
    (here / "sheet.csv").write_text(data)
    (here / "made").mkdir()
    return call(
        "folds.py",
        "--sheet",
        here / "sheet.csv",
        "--preset",
        "test",
        "--set",
        "folds.holdout=0",
        "--out",
        here / out,
        *more,
    )


def tool(here, name, *arguments):
    """A tool on image.mha, ct.mha and mask.mha; "@" in an argument is the place of the test."""
    for key, array in (("image", MR), ("ct", CT), ("mask", MASK)):
        image(array, here / f"{key}.mha")
    return call(name, *(str(one).replace("@", str(here)) for one in arguments))


REGISTER = ("register.py", "--method", "none", "--modality", "mr", "--preset", "test", "--fixed", "@/image.mha",
    "--moving", "@/ct.mha", "--moving-is", "ct", "--fixed-mask", "@/mask.mha")  # fmt: skip
EVALUATE = ("evaluate.py", "--sct", "@/ct.mha", "--ct", "@/ct.mha", "--mask", "@/mask.mha")


def meta(old, new):
    return {"replace": [(old.encode(), new.encode())]}


KINDS = {
    # sheets
    "sheet: empty": (lambda h: folds(h, b""), "sheet.csv", "no patients"),
    "sheet: header alone": (lambda h: folds(h, HEAD), "sheet.csv", "no patients"),
    "sheet: UTF-16": (lambda h: folds(h, (HEAD + ROWS).encode("utf-16")), "sheet.csv"),
    "sheet: Latin-1": (lambda h: folds(h, (HEAD + "Müller,AB,A,i,c,m,\n").encode("latin-1")), "sheet.csv"),
    "sheet: semicolons": (lambda h: folds(h, (HEAD + ROWS).replace(",", ";")), "sheet.csv"),
    "sheet: tabs": (lambda h: folds(h, (HEAD + ROWS).replace(",", "\t")), "sheet.csv"),
    "sheet: no column patient": (lambda h: folds(h, (HEAD + ROWS).replace("patient", "name")), "sheet.csv"),
    "sheet: a zip file": (lambda h: folds(h, b"PK\x03\x04" + bytes(range(256))), "sheet.csv"),
    "sheet: NUL bytes": (lambda h: folds(h, HEAD.encode() + b"P\0,AB,A,i,c,m,\n"), "sheet.csv"),
    # names
    "name: twice": (lambda h: folds(h, HEAD + ROWS + "P1,AB,A,i,c,m,\n"), "sheet.csv", "'P1'", "twice"),
    "name: empty": (lambda h: folds(h, HEAD + ROWS + ",AB,A,i,c,m,\n"), "sheet.csv", "patient ''"),
    "name: a blank in it": (lambda h: folds(h, HEAD + "P 1,AB,A,i,c,m,\n"), "sheet.csv", "'P 1'"),
    "name: a path": (lambda h: folds(h, HEAD + "../P1,AB,A,i,c,m,\n"), "sheet.csv", "'../P1'"),
    "name: a command": (lambda h: folds(h, HEAD + "$(x),AB,A,i,c,m,\n"), "sheet.csv", "'$(x)'"),
    "name: begins with a dash": (lambda h: folds(h, HEAD + "-rf,AB,A,i,c,m,\n"), "sheet.csv", "'-rf'"),
    "name: an umlaut": (lambda h: folds(h, HEAD + "Müller,AB,A,i,c,m,\n"), "sheet.csv", "'Müller'"),
    # lists
    "fold list: an unknown name": (lambda h: listed(h, "P0\n", "Q\n"), "'Q'"),
    "fold list: a name in two": (lambda h: listed(h, "P0\nP1\n", "P1\nP2\n"), "'P1'", "two"),
    "fold list: UTF-16": (lambda h: listed(h, "P0\n".encode("utf-16"), "P1\n"), "list0.txt"),
    "fold list: Latin-1": (lambda h: listed(h, "P0 # für\n".encode("latin-1"), "P1\n"), "list0.txt"),
    "excluded: no column patient": (lambda h: excluded(h, b"name,reason\nP1,x\n"), "excluded.csv", "'patient'"),
    "excluded: UTF-16": (lambda h: excluded(h, "patient,reason\nP1,x\n".encode("utf-16")), "excluded.csv"),
    "excluded: everybody": (lambda h: excluded(h, b"patient\nP0\nP1\nP2\nP3\n"), "no patient left"),
    "exclusion list: UTF-16": (lambda h: curate(h, "{}", exclude="P1\n".encode("utf-16")), "exclude.txt"),
    "exclusion list: Latin-1": (lambda h: curate(h, "{}", exclude="P1 # für\n".encode("latin-1")), "exclude.txt"),
    # quality records
    "record: not JSON": (lambda h: curate(h, "{"), "P1.json"),
    "record: a failed pair": (lambda h: curate(h, '{"failed": "constant"}', "--set", "curation.mode=none"), "P1"),
    # parameters and presets
    "preset: none of that name": (lambda h: call("check.py", "--sheet", sheet(h), "--modality", "mr", "--preset", "papr",
        "--out", h / "out" / "s.json"), "'papr'"),
    "preset: not TOML": (lambda h: preset(h, "[training"), "own.toml", "TOML"),
    "preset: inherits nothing": (lambda h: preset(h, "[training]\nbatch = 1\n"), "own.toml", "inherit"),
    "preset: an unknown key": (lambda h: preset(h, 'inherit = "test"\n[training]\nbach = 1\n'), "training.bach", "batch"),
    "preset: an unknown section": (lambda h: preset(h, 'inherit = "test"\n[trainig]\nbatch = 1\n'), "'trainig'"),
    "preset: a text for a number": (lambda h: preset(h, 'inherit = "test"\n[training]\nbatch = "x"\n'), "training.batch"),
    "setting: no value": (lambda h: setting(h, "training.batch"), "training.batch"),
    "setting: an unknown key": (lambda h: setting(h, "training.bach=1"), "bach"),
    "setting: of another type": (lambda h: setting(h, "training.batch=many"), "training.batch"),
    "setting: a command": (lambda h: setting(h, "inference.flips=$(x)"), "inference.flips"),
    "setting: no such checkpoint": (lambda h: setting(h, "inference.checkpoint=last"), "'last'"),
    "setting: a region in two groups": (lambda h: setting(h, "finetuning.groups=AB+TH,AB"), "AB"),
    "setting: a holdout of nobody": (lambda h: setting(h, "folds.holdout=0.05"), "holdout"),
    "setting: more folds than patients": (lambda h: setting(h, "folds.folds=9"), "folds 9"),
    # images
    "image: not there": (lambda h: case(h, "image"), "bad_image.mha"),
    "image: unknown format": (lambda h: case(h, name="a.jpg", raw=b"x"), "a.jpg", "unknown format"),
    "image: empty file": (lambda h: case(h, raw=b""), "bad_image.mha", "no header"),
    "image: a web page": (lambda h: case(h, raw=b"<html>503</html>" * 99), "bad_image.mha", "no header"),
    "image: cut short": (lambda h: case(h, cut=99), "bad_image.mha", "truncated"),
    "image: cut short, .nii.gz": (lambda h: case(h, name="a.nii.gz", compress=True, cut=99), "a.nii.gz", "truncated"),
    "image: a flipped bit": (lambda h: case(h, compress=True, flip=1), "bad_image.mha", "damaged"),
    "image: a flipped bit, .nii.gz": (lambda h: case(h, name="a.nii.gz", compress=True, flip=1), "a.nii.gz", "damaged"),
    "image: a flipped bit, .nrrd": (lambda h: case(h, name="a.nrrd", compress=True, flip=1), "a.nrrd", "damaged"),
    "image: gzip of nothing": (lambda h: case(h, name="a.nii.gz", raw=gzip.compress(b"")), "a.nii.gz"),
    "image: two-dimensional": (lambda h: case(h, array=MR[0]), "2-dimensional"),
    "image: one slice": (lambda h: case(h, array=MR[:1]), "several slices"),
    "image: several values a voxel": (lambda h: case(h, **meta("ElementType", "ElementNumberOfChannels = 3\nElementType")),
        "bad_image.mha"),
    "image: NaN": (lambda h: case(h, array=some(MR, np.nan)), "1 voxels are NaN"),
    "image: NaN, .nii": (lambda h: case(h, name="a.nii", array=some(MR, np.nan)), "1 voxels are NaN"),
    "image: infinity, .nii.gz": (lambda h: case(h, name="a.nii.gz", array=some(MR, np.inf), compress=True), "infinite"),
    "image: constant": (lambda h: case(h, array=np.full_like(MR, 7)), "constant"),
    "image: a hot voxel": (lambda h: case(h, array=some(CT, 1e7), modality="cbct"), "1e+07"),
    "image: HU for MR": (lambda h: case(h, array=CT), "looks like HU"),
    "image: spacing of zero": (lambda h: case(h, **meta("ElementSpacing = 1 1 3", "ElementSpacing = 0 1 3")), "spacing 0"),
    "image: spacing in metres": (lambda h: case(h, **meta("ElementSpacing = 1 1 3", "ElementSpacing = .001 .001 .003")),
        "another unit"),
    "image: NaN in its origin": (lambda h: case(h, **meta("Offset = 0", "Offset = nan")), "Offset holds nan"),
    "image: sheared axes": (lambda h: case(h, **meta("TransformMatrix = 1 0", "TransformMatrix = 1 1")), "right angles"),
    "image: larger than memory": (lambda h: case(h, **meta("DimSize = 32 30 6", "DimSize = 99999 99999 99999")), "memory"),
    "CT: its intercept lost": (lambda h: case(h, "ct", array=(CT + 1024).astype(np.uint16)), "rescale intercept"),
    "CT: is the MR": (lambda h: case(h, "ct", array=MR), "no voxel below -200 HU"),
    "CT: of another grid": (lambda h: case(h, "ct", array=CT[1:]), "another grid"),
    "CT: beyond HU": (lambda h: case(h, "ct", array=some(CT, 1e6)), "65535"),
    # masks
    "mask: empty": (lambda h: case(h, "mask", array=0 * MASK), "bad_mask.mha", "no voxel above 0"),
    "mask: of another grid": (lambda h: case(h, "mask", array=MASK[1:]), "bad_mask.mha", "another grid"),
    "mask: probabilities": (lambda h: case(h, "mask", array=(MASK * 0.4).astype(np.float32)), "whole numbers"),
    # DICOM
    "DICOM: an empty directory": (lambda h: directory(h), "series", "no image"),
    "DICOM: no DICOM in it": (lambda h: directory(h, a=b"hello"), "series"),
    # bundles
    "bundle: no bundle.json": (lambda h: bundle(h, None), "bundle.json"),
    "bundle: not JSON": (lambda h: bundle(h, "{"), "bundle.json"),
    "bundle: a list": (lambda h: bundle(h, "[]"), "model"),
    "bundle: nothing in it": (lambda h: bundle(h, "{}"), "model"),
    # kept aside: of the same kinds
    "sheet: a patient twice, in small letters": (lambda h: folds(h, HEAD + ROWS + "p1,AB,A,i,c,m,\n"), "'p1'", "'P1'"),
    "sheet: a region in two spellings": (lambda h: folds(h, HEAD + ROWS + "P9,ab,A,i,c,m,\n"), "line 6", "'ab'", "'AB'"),
    "sheet: split in capitals": (lambda h: folds(h, HEAD + ROWS + "P9,AB,A,i,c,m,Test\n"), "line 6", "'Test'", "test"),
    "sheet: a region with a slash": (lambda h: folds(h, HEAD + "P9,AB/../x,A,i,c,m,\n"), "line 2", "'AB/../x'"),
    "sheet: a column twice": (lambda h: folds(h, HEAD.replace("center", "region") + ROWS), "'region'", "2 times"),
    "sheet: a name of 300 letters": (lambda h: folds(h, HEAD + "P" * 300 + ",AB,A,i,c,m,\n"), "300 letters"),
    "sheet: a name over two lines": (lambda h: folds(h, HEAD + '"P\n1",AB,A,i,c,m,\n'), "sheet.csv, line 3"),
    "sheet: a quote that does not end": (lambda h: folds(h, HEAD + 'P9,"AB,A,i,c,m,\n' + ROWS), "sheet.csv", "CSV"),
    "sheet: a cell of 200 000 letters": (lambda h: folds(h, HEAD + "P9," + "A" * 200_000 + ",A,i,c,m,\n"), "line 2", "field"),
    "sheet: cells beyond the header": (lambda h: folds(h, HEAD + "P9,AB,A,i,c,m,test,x\n"), "line 2", "8 cells"),
    "sheet: a name with a space of no width": (lambda h: folds(h, HEAD + "P9\u200b,AB,A,i,c,m,\n"), "line 2"),
    "list of patients: a dash first": (lambda h: predicted(h, "patient,image\n-rf,i.mha\n"), "line 2", "'-rf'"),
    "list of patients: a name with a slash": (lambda h: predicted(h, "patient,image\na/b,i.mha\n"), "line 2", "'a/b'"),
    "list of patients: two lines in a name": (lambda h: predicted(h, 'patient,image\n"a\nb",i.mha\n'), "list.csv, line 3"),
    "list of patients: NUL": (lambda h: predicted(h, "patient,image\na\0b,i.mha\n"), "list.csv, line 2", "NUL"),
    "list of patients: a path of 5000 letters": (lambda h: predicted(h, "patient,image\na," + "i" * 5000 + "\n"), "line 2", "iii…iii", "(5000 letters", "no such file"),
    "exclusion list: a quote that does not end": (lambda h: curate(h, "{}", exclude=b'patient,reason\nP1,"x\n'), "exclude.txt", "CSV"),
    "exclusion list: a cell of 200 000 letters": (lambda h: curate(h, "{}", exclude=b"patient,reason\nP1," + b"x" * 200_000), "exclude.txt"),
    "exclusion list: NUL": (lambda h: curate(h, "{}", exclude=b"P1\0\n"), "exclude.txt, line 1", "NUL"),
    "record: a text for a number": (lambda h: curate(h, '{"folding_fraction": "much"}'), "P1.json", "no number"),
    "record: a number for a table": (lambda h: curate(h, '{"jacobian": 3}'), "P1.json", "no number"),
    "record: a table without its keys": (lambda h: curate(h, '{"jacobian": {}}'), "P1.json", "'p1'"),
    "record: true for a number": (lambda h: curate(h, '{"folding_fraction": true}'), "P1.json", "folding_fraction"),
    "record: a path for a patient": (lambda h: curate(h, '{"patient": "../x"}'), "P1.json", "'../x'"),
    "record: half a character": (lambda h: curate(h, '{"patient": "\\ud800"}'), "P1.json", "patient"),
    "record: a number of 5000 digits": (lambda h: curate(h, '{"folding_fraction": ' + "9" * 5000 + "}"), "P1.json", "JSON"),
    "record: nested 100 000 deep": (lambda h: curate(h, "[" * 100_000), "P1.json", "JSON"),
    "preset: infinity": (lambda h: preset(h, 'inherit = "test"\n[training]\nlearning_rate = inf\n'), "training.learning_rate inf"),
    "preset: NaN": (lambda h: preset(h, 'inherit = "test"\n[training]\nlearning_rate = nan\n'), "training.learning_rate nan"),
    "preset: nested 5000 deep": (lambda h: preset(h, 'inherit = "test"\n[training]\npatch = ' + "[" * 5000), "own.toml", "TOML"),
    "setting: below zero": (lambda h: setting(h, "training.batch=-1"), "training.batch -1", "1 or more"),
    "setting: a patch of one number": (lambda h: setting(h, "training.patch=[64]"), "training.patch", "two numbers"),
    "setting: a range turned round": (lambda h: setting(h, "preprocessing.ct_range=[1000, -1000]"), "ct_range", "lower first"),
    "setting: a share of two": (lambda h: setting(h, "curation.max_excluded=2.0"), "max_excluded 2.0", "0 to 1"),
    "setting: a schedule that is none": (lambda h: setting(h, "training.schedule=never"), "'never'", "step or cosine"),
    "setting: a seed below zero": (lambda h: setting(h, "folds.seed=-1"), "folds.seed -1"),
    "setting: a holdout of nan": (lambda h: setting(h, "folds.holdout=nan"), "holdout 'nan'"),
    "setting: a holdout of infinity": (lambda h: setting(h, "folds.holdout=1e400"), "holdout '1e400'"),
    "output: is a directory": (lambda h: written(h, "made"), "made", "directory"),
    "output: below a file": (lambda h: written(h, "sheet.csv/x.json"), "sheet.csv/x.json", "cannot be written"),
    "output: is an input": (lambda h: written(h, "sheet.csv"), "sheet.csv", "--sheet"),
    "output: a name of 300 letters": (lambda h: written(h, "x" * 300), "too long"),
    "output: where nobody can write": (lambda h: written(h, "/proc/nowhere/x.json"), "/proc/nowhere/x.json"),
    "output: two in one place": (lambda h: tool(h, *REGISTER, "--out-image", "@/out/d.mha", "--out-displacement", "@/out/d.mha"), "d.mha", "--out-image"),
    "output: the moving image": (lambda h: tool(h, *REGISTER, "--out-image", "@/ct.mha", "--out-displacement", "@/out/d.mha"), "ct.mha", "--moving"),
    "output: the scored CT": (lambda h: tool(h, *EVALUATE, "--out", "@/ct.mha"), "ct.mha", "is the input"),
    "output: slices onto the mask": (lambda h: tool(h, *EVALUATE, "--out", "@/out/m.json", "--slices", "@/mask.mha"), "--mask"),
    "HU range: infinite": (lambda h: tool(h, *EVALUATE, "--hu-range", "-inf", "inf", "--out", "@/out/m.json"), "--hu-range"),
    "versions: an unknown package": (lambda h: tool(h, "versions.py", "--process", "X", "--out", "@/out/v.yml", "nosuch"), "nosuch"),
    "MHA: spacing of two numbers": (lambda h: case(h, raw=mha(RAW, ElementSpacing="1 1")), "ElementSpacing 1 1", "3 numbers"),
    "MHA: origin of two numbers": (lambda h: case(h, raw=mha(RAW, Offset="0 0")), "Offset 0 0", "3 numbers"),
    "MHA: a slope that ITK passes over": (lambda h: case(h, raw=mha(RAW, ElementToIntensityFunctionSlope=2)), "Slope 2"),
    "MHA: a longer type than it says": (lambda h: case(h, raw=mha(MR.astype("f4").tobytes())), "23040 bytes", "11520"),
    "MHA: a slice more than it says": (lambda h: case(h, raw=mha(RAW + MR[0].tobytes())), "13440 bytes", "11520"),
    "MHA: bytes in the other order": (lambda h: case(h, raw=mha(SMOOTH.astype(">i2").tobytes())), "bytes in the other order"),
    "MHA: compressed size below zero": (lambda h: case(h, raw=mha(PACKED, CompressedData="True", CompressedDataSize=-5)), "CompressedDataSize -5"),
    "MHA: compressed size too small": (lambda h: case(h, raw=mha(PACKED, CompressedData="True", CompressedDataSize=len(PACKED) - 9)), "truncated"),
    "MHA: voxels elsewhere, not there": (lambda h: case(h, name="a.mhd", raw=mha(b"", "gone.raw")), "gone.raw"),
    "MHA: voxels in the header itself": (lambda h: case(h, name="a.mhd", raw=mha(b"", "a.mhd")), "truncated"),
    "MHA: HeaderSize below -1": (lambda h: case(h, name="a.mhd", raw=mha(b"", "bad_image.raw", HeaderSize=-7)), "a.mhd"),
    "MHA: voxels as text": (lambda h: case(h, raw=mha(b"1 2 3", BinaryData="False")), "BinaryData"),
    "MHA: a spacing with a comma": (lambda h: case(h, raw=mha(RAW, ElementSpacing="1,0 1,0 3,0")), "1,0"),
    "MHA: an axis of no length": (lambda h: case(h, raw=mha(RAW, DimSize="32 0 6")), "32×0×6"),
    "NIfTI: no place at all": (lambda h: case(h, name="a.nii", raw=nii(MR, codes=(0, 0))), "neither sform nor qform"),
    "NIfTI: two places": (lambda h: case(h, name="a.nii", raw=nii(MR, offset=(100, 0, 0))), "100 mm apart"),
    "NIfTI: qoffset of NaN": (lambda h: case(h, name="a.nii", raw=nii(MR, codes=(1, 0), offset=(np.nan, 0, 0))), "nan"),
    "NIfTI: of another magic": (lambda h: case(h, name="a.nii", raw=nii(MR, magic=b"xyz\0")), "magic"),
    "NIfTI: voxels inside the header": (lambda h: case(h, name="a.nii", raw=nii(MR, start=100)), "vox_offset 100"),
    "NIfTI: complex": (lambda h: case(h, name="a.nii", raw=nii(MR.astype("c8"), code=32)), "voxel type 32"),
    "NIfTI: four axes": (lambda h: case(h, name="a.nii", raw=nii(np.stack([MR, MR]), dims=(4, 32, 30, 6, 2))), "4-dimensional"),
    "NIfTI: a slope of NaN with an offset": (lambda h: case(h, name="a.nii", raw=nii(MR, slope=np.nan, inter=5)), "scl_slope nan"),
    "NIfTI: a huge slope": (lambda h: case(h, name="a.nii", raw=nii(MR, slope=1e30)), "expected at most"),
    "gzip: 200 MB behind the image": (lambda h: case(h, name="a.nii.gz", raw=gzip.compress(nii(MR) + bytes(200_000_000), 1)), "11520"),
    "gzip: its second member cut": (lambda h: case(h, name="a.nii.gz", raw=gzip.compress(nii(MR)[:5000]) + gzip.compress(nii(MR)[5000:])[:-9]), "truncated"),
    "gzip: zipped twice": (lambda h: case(h, name="a.nii.gz", raw=gzip.compress(gzip.compress(nii(MR)))), "no header"),
    "NRRD: detached, voxels not there": (lambda h: case(h, name="a.nhdr", raw=nrrd(b"", data_file="gone.raw")), "gone.raw"),
    "NRRD: a space that is none": (lambda h: case(h, name="a.nrrd", raw=nrrd(RAW, space="moon")), "moon"),
    "NRRD: of metres": (lambda h: case(h, name="a.nrrd", raw=nrrd(RAW, space_units='"m" "m" "m"')), "space units m"),
    "NRRD: an axis of no length": (lambda h: case(h, name="a.nrrd", raw=nrrd(RAW, sizes="32 0 6")), "32×0×6"),
    "mask: is the CT": (lambda h: case(h, "mask", array=SMOOTH + 1), "different values", "labels"),
    "mask: is the MR": (lambda h: case(h, "mask", array=SMOOTH.astype(np.float32)), "different values", "labels"),
    "mask: turned inside out": (lambda h: case(h, "mask", array=(CT < -500).astype(np.uint8)), "most of it is air"),
    "mask: a voxel away": (lambda h: case(h, "mask", **meta("Offset = 0", "Offset = 1")), "another grid"),
    "mask: NaN": (lambda h: case(h, "mask", array=some(MASK, np.nan)), "NaN"),
    "mask: labels of 1e12": (lambda h: case(h, "mask", array=(MASK * 1e12).astype(np.float64)), "32 bits"),
    "bundle: groups in a list": (lambda h: made(h, groups=[]), "groups"),
    "bundle: no groups": (lambda h: made(h, groups={}), "groups"),
    "bundle: a group that is a number": (lambda h: made(h, groups={"global": 5}), "group 'global'"),
    "bundle: a group without regions": (lambda h: made(h, groups={"global": {"best": []}}), "group 'global'"),
    "bundle: channels in words": (lambda h: made(h, channels="3"), "channels", "'3'"),
    "bundle: channels below zero": (lambda h: made(h, channels=-1), "-1 channels"),
    "bundle: no network": (lambda h: made(h, network={}), "network.encoder"),
    "bundle: files in a list": (lambda h: made(h, files=["w.safetensors"]), "files"),
    "bundle: a file above it": (foreign("../secret"), "'../secret'"),
    "bundle: a file of the system": (foreign("/etc/passwd"), "'/etc/passwd'"),
    "bundle: nothing to infer with": (lambda h: made(h, inference={}), "inference.checkpoint"),
    "bundle: weights that are a program": (lambda h: made(h, program()), "w.safetensors", "not a safetensors file"),
    "bundle: weights with a huge header": (lambda h: made(h, struct.pack("<Q", 2**60) + b"{}"), "w.safetensors"),
}  # fmt: skip


def sheet(here):
    (here / "sheet.csv").write_text(HEAD + ROWS)
    return here / "sheet.csv"


def tried(kind, here):
    """Exit status, the lines on stderr, and what lies where the output should have been."""
    (here / "out").mkdir()
    done = KINDS[kind][0](here)
    return done.returncode, [line for line in done.stderr.splitlines() if line.strip()], list((here / "out").iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_one_line_that_names_the_culprit(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    status, lines, left = tried(kind, tmp_path)
    assert status == 2 and len(lines) == 1 and "Traceback" not in lines[0], lines
    assert len(lines[0]) < 1000, len(lines[0])
    for text in KINDS[kind][1:]:
        assert text in lines[0], lines[0]
    assert not left, left
    assert not list(tmp_path.glob("synthct-*.log"))
    assert not (tmp_path / "pwned").exists()


if __name__ == "__main__":
    import tempfile

    table = []
    for each in KINDS:
        with tempfile.TemporaryDirectory() as place:
            status, lines, _ = tried(each, Path(place))
            said = json.dumps(lines[-1] if lines else "", ensure_ascii=False)[1:-1].replace(place + "/", "")
            table.append(f"| {each} | {said.replace('|', '/')} | {status} |")
    print("| kind | line | exit |\n|---|---|---|\n" + "\n".join(table))
