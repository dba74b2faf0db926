"""A catalogue of bad input: for each kind the exit status, one line that names the culprit, and nothing left behind.

`python tests/catalogue/test_bad_input.py` prints it as a table (kind, line, exit status).
"""

# ruff: noqa: E501
import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[2] / "bin")]
from models import call  # noqa: E402

HEAD = "patient,region,center,image,ct,mask,split\n"
ROWS = "".join(f"P{n},AB,A,i.mha,c.mha,m.mha,\n" for n in range(4))
SHAPE = (6, 30, 32)
CT = np.random.default_rng(0).normal(0, 40, SHAPE).round()
CT[:, :4] = -1000
CT = CT.astype(np.int16)
MR = np.where(CT > -500, 300 + CT, 0).astype(np.int16)
MASK = np.zeros(SHAPE, np.uint8)
MASK[1:5, 8:26, 6:28] = 1


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
    for text in KINDS[kind][1:]:
        assert text in lines[0], lines[0]
    assert not left, left
    assert not list(tmp_path.glob("synthct-*.log"))


def test_there_are_sixty_kinds():
    assert len(KINDS) >= 60


if __name__ == "__main__":
    import tempfile

    table = []
    for each in KINDS:
        with tempfile.TemporaryDirectory() as place:
            status, lines, _ = tried(each, Path(place))
            said = json.dumps(lines[-1] if lines else "", ensure_ascii=False)[1:-1].replace(place + "/", "")
            table.append(f"| {each} | {said.replace('|', '/')} | {status} |")
    print("| kind | line | exit |\n|---|---|---|\n" + "\n".join(table))
