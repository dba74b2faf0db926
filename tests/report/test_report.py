"""The report: complete, offline, escaped, the same twice; in a real browser not broken and no wider than a phone."""

import csv
import json
import re
from html.parser import HTMLParser

import browser
import numpy as np
import pytest
from conftest import bad_input

from synthct.core.errors import InputError
from synthct.core.files import plain, write_json
from synthct.core.presets import resolve
from synthct.core.records import write_arrays
from synthct.report.blocks import Figure, Section
from synthct.report.inputs import read_inputs
from synthct.report.page import fitted, write_report
from synthct.report.study_sections import mean_and_sd
from synthct.study.rows import METRICS, of_chosen_checkpoint

ARMS = ("impact", "elastix", "none")
REGIONS = {"P1": "AB", "P2": "AB", "P3": "TH", "P4": "TH", "P5": "HN", "P6": "HN"}
HOSTILE = "<script>alert('x')</script>"
RECIPE = {
    "engine": "sampled",
    "direction": "image_to_ct",
    "compares": "learnt features",
    "terms": [{"compares": "TS730", "weight": 1.0, "layers": [7], "distance": "L1", "mode": "static"}],
    "weights": {"M730.pt": "0123456789abcdef" * 4},
}
SECTIONS = ("results", "matrix", "patients", "selection", "registration", "cohort", "training", "provenance")


def metrics(patient, trained, tested, seed):
    """A metrics file as evaluate.py writes it."""
    random = np.random.default_rng(seed)
    mae = 50 + 12 * (trained != tested) + 5 * random.random()
    return {
        "record": "metrics",
        "patient": patient,
        "region": REGIONS.get(patient, "AB"),
        "trained_on": trained,
        "tested_on": tested,
        "checkpoint": "",
        "mae": mae,
        "psnr": 33 - mae / 20,
        "ms_ssim": float("nan") if patient == "P6" and tested == "none" else 1 - mae / 1000,
        "dice": 0.8,
        "hd95": 4.5,
        "n_classes_scored": 9,
        "n_classes_missing": 1,
        "hu_range": [-1024, 3071],
        "voxels": 1000,
        "hu_bins": {"air": 100.0, "lung": "nan", "soft": mae / 2, "bone": 2 * mae},
        "hu_bin_bias": {"air": 1.0, "lung": "nan", "soft": 2.0, "bone": -3.0},
        "hu_bin_voxels": {"air": 5, "lung": 0, "soft": 900, "bone": 95},
        "baselines": {"constant": {"mae": 130.0}, "lookup": {"mae": 90.0}},
        "notes": [],
        "uncertainty": {
            "mean": 20.0,
            "pearson": 0.5,
            "groups": [{"uncertainty": 4.0 * i, "mae": 6.0 * i} for i in range(1, 11)],
        },
    }


def planes(seed, shape=(60, 72)):
    """The arrays of --slices: an ellipse."""
    random = np.random.default_rng(seed)
    y, x = np.indices(shape)
    mask = ((y - 30) / 25) ** 2 + ((x - 36) / 30) ** 2 < 1
    ct = np.where(mask, random.normal(40, 60, shape), -1000).astype(np.int16)
    one = {
        "ct": ct,
        "sct": (ct + random.normal(0, 40, shape)).astype(np.int16),
        "mask": mask.astype(np.int16),
        "image": np.where(mask, 500, 0).astype(np.int16),
        "uncertainty": np.full(shape, 20, np.float16),
    }
    return {f"{plane}_{name}": array for plane in ("axial", "coronal", "sagittal") for name, array in one.items()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The files of a small study, as the steps would have left them; returns the options of report.py."""
    root = tmp_path_factory.mktemp("study")
    records = root / "records"
    (records / "deep").mkdir(parents=True)
    for seed, (patient, trained, tested) in enumerate((p, a, b) for p in REGIONS for a in ARMS for b in ARMS):
        about = {"record": "slices", "patient": patient, "trained_on": trained, "tested_on": tested}
        write_json(records / f"{seed}.json", plain(metrics(patient, trained, tested, seed)))
        write_arrays(records / "deep" / f"{seed}.npz", about, planes(seed))
    for seed, arm in enumerate(ARMS):
        random = np.random.default_rng(seed)
        for patient in ("P1", "P3"):
            stack = random.integers(0, 500, (3, 40, 50)).astype(np.int16)
            stacks = dict.fromkeys(("fixed", "before", "after", "distance_before"), stack)
            mask = np.pad(np.ones((3, 20, 30), np.uint8), ((0, 0), (10, 10), (10, 10)))
            identity = {"method": arm, "patient": patient}
            write_arrays(
                records / f"{arm}_{patient}.npz",
                {"record": "preview", **identity},
                {**stacks, "distance_after": stack // 2, "mask": mask},
            )
            write_json(
                records / f"{arm}_{patient}.json",
                {
                    "record": "registration",
                    **identity,
                    "recipe": RECIPE if arm == "impact" else None,
                    "mutual_information_before": 0.3,
                    "mutual_information_after": 0.5,
                    "mind_distance_before": 0.3,
                    "mind_distance_after": 0.2,
                    "displacement_mm": {"mean": 3.0, "max": 9.0},
                    "folding_fraction": 0.0,
                },
            )
        for fold in (0, 1):
            for group in ("global", "AB-TH"):
                log = [
                    {"step": str(step), "loss": str(1 / step), "validation_mae_hu": "" if step % 2 else str(90 - step)}
                    for step in range(1, 9)
                ]
                identity = {"record": "training", "arm": arm, "fold": str(fold), "group": group}
                write_json(records / f"{arm}_{fold}_{group}.json", {**identity, "log": log})
        (records / f"{arm}.csv").write_text(f'arm,patient,reason,score\n{arm},P9,"too far {HOSTILE}",1.5\n')
        plan = {"record": "folds", "arm": arm, "test": list(REGIONS), "folds": [], "excluded": {}}
        write_json(records / f"{arm}_folds.json", plan)
    (root / "sheet.csv").write_text(
        "patient,region,center,image,ct,mask\n"
        + "".join(f"{name},{region},{HOSTILE},i,c,m\n" for name, region in REGIONS.items())
        + "P9,AB,=1+1,i,c,m\n"
    )
    write_json(
        root / "settings.json",
        {
            "preset": "test",
            "modality": "mr",
            "registration": resolve("paper", "mr")["registration"],
        },
    )
    (root / "versions.yml").write_text('"STUDY:TRAIN":\n    torch: 2.12.0\n')
    return {
        "records": [records],
        "cohort": root / "sheet.csv",
        "settings": root / "settings.json",
        "versions": root / "versions.yml",
    }


@pytest.fixture(scope="module")
def report(study, tmp_path_factory, run_tool):
    """The report's directory, made by the tool."""
    out = tmp_path_factory.mktemp("report") / "report"
    options = [
        part for name, value in study.items() for part in (f"--{name}", *(value if name == "records" else [value]))
    ]
    process = run_tool("report.py", *options, "--outdir", out, "--evaluation-out", out / "csv")
    assert process.returncode == 0, process.stderr
    return out


class Page(HTMLParser):
    """What a test wants to know of a page."""

    def __init__(self, text):
        super().__init__()
        self.images, self.links, self.ids, self.tags = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append(tag)
        self.ids.append(attributes.get("id"))
        self.links += [value for key, value in attrs if key in ("href", "src")]
        if tag == "img":
            self.images.append(attributes)


def read_csv(path):
    with open(path, newline="") as stream:
        return list(csv.DictReader(stream))


def test_page_has_every_section_and_nothing_from_outside(report):
    text = (report / "report.html").read_text()
    page = Page(text)
    assert set(SECTIONS) <= set(page.ids)
    assert all(link.startswith(("data:", "#")) for link in page.links)
    assert "@import" not in text and "url(" not in text
    assert len(text.encode()) < 10_000_000
    assert len(page.images) > 15 and all(image["alt"].strip() for image in page.images)


def test_what_a_sheet_says_is_escaped(report):
    text = (report / "report.html").read_text()
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;alert" in text


def test_verdict_comes_first(report):
    text = (report / "report.html").read_text()
    assert text.index("Changing only the registration of the test images") < text.index('<section id="results"')


def test_numbers_of_the_page_are_in_the_csvs(report):
    text = (report / "report.html").read_text()
    for cell in read_csv(report / "csv" / "matrix.csv"):
        assert f"{float(cell['mae_pooled']):.1f}" in text and cell["n"] == "6"
    patients = read_csv(report / "csv" / "patients.csv")
    assert len(patients) == 54 and {row["center"] for row in patients} == {HOSTILE}
    worst = max((row for row in patients if row["trained_on"] == row["tested_on"]), key=lambda row: float(row["mae"]))
    assert f"{float(worst['mae']):.1f}" in text
    summary = read_csv(report / "csv" / "summary.csv")
    assert {"AB", "TH", "HN", "aggregated", "pooled"} == {row["region"] for row in summary}
    assert any(row["left_out_patients"] == "P6 (nan)" for row in summary)
    assert "MS-SSIM of P6 (nan)" in text
    assert len(read_csv(report / "csv" / "tests.csv")) == 18 * len(METRICS)
    assert {row["patient"] for row in read_csv(report / "csv" / "registration.csv")} == {"P1", "P3"}


def test_one_patient_has_no_spread():
    assert mean_and_sd({"mean": 61.52, "sd": 0.0, "n": 1}, 1) == "61.5"
    assert mean_and_sd({"mean": 61.52, "sd": 2.0, "n": 2}, 1) == "61.5 ± 2.0"


def test_csv_cells_are_no_formulas(report):
    assert [row["center"] for row in read_csv(report / "csv" / "cohort.csv") if row["patient"] == "P9"] == ["'=1+1"]


def test_figures_and_page_twice_are_the_same_bytes(study, report, tmp_path):
    write_report(read_inputs(**study), tmp_path, tmp_path / "csv")
    first = {path.relative_to(report): path.read_bytes() for path in report.rglob("*") if path.is_file()}
    second = {path.relative_to(tmp_path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert set(first) == set(second) and [name for name in first if first[name] != second[name]] == []
    assert sum(name.suffix == ".png" for name in first) > 20


def test_multiqc_files_say_what_they_are(report):
    lines = (report / "multiqc" / "synthct_matrix_mqc.tsv").read_text().splitlines()
    assert lines[0] == "# id: 'synthct_matrix'" and "# plot_type: 'table'" in lines
    table = [line.split("\t") for line in lines if not line.startswith("#")]
    assert table[0][:3] == ["cell", "patients", "MAE"] and len(table) == 10
    assert (report / "multiqc" / "synthct_matrix_mae_mqc.png").is_file()


def test_nothing_but_a_place_to_write(tmp_path, run_tool):
    process = run_tool("report.py", "--outdir", tmp_path / "out")
    assert process.returncode == 0, process.stderr
    assert "No synthetic CT was scored" in (tmp_path / "out" / "report.html").read_text()
    assert read_csv(tmp_path / "out" / "evaluation" / "patients.csv") == []


def test_the_head_and_the_matrix_say_what_was_compared_with_which_weights(report):
    text = (report / "report.html").read_text()
    head = text[: text.index("</header>")]
    assert (
        "IMPACT compares 1 TS730 layer 7 (static, L1); weights (SHA-256, its first 12 digits): M730.pt (0123456789ab)"
        in head
    )
    cells = read_csv(report / "csv" / "matrix.csv")
    said = {row["trained_on_compared"] for row in cells if row["trained_on"] == "impact"}
    assert said == {"TS730 layer 7; static, L1; 01234567"}
    assert {row["tested_on_compared"] for row in cells if row["tested_on"] == "elastix"} == {""}


def test_predictions_without_ct(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    write_json(
        folder / "a.json",
        {
            "record": "prediction",
            "patients": [{"patient": "N1", "mean_uncertainty_hu": 12.5, "warnings": ["no mask"]}],
        },
    )
    write_report(read_inputs([folder]), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "1 synthetic CT was made" in text and "N1" in text and "12.5" in text and "no mask" in text


def test_predictions_say_whether_to_trust_them(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    said = {"N1": ("use", []), "N2": ("do not use", ["slices too thick", "noisier"]), "N3": ("look", ["more fat"])}
    patients = [
        {"patient": name, "mean_uncertainty_hu": 10, "trust": {"verdict": verdict, "reasons": reasons}}
        for name, (verdict, reasons) in said.items()
    ]
    write_json(folder / "a.json", {"record": "prediction", "patients": patients})
    write_report(read_inputs([folder]), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "1 should not be used, 1 should be looked at before use and 1 resemble" in text
    rows = text.split("<tbody>")[1]
    assert rows.index("N2") < rows.index("N3") < rows.index("N1") and "slices too thick; noisier" in rows
    table = {row["patient"]: row for row in read_csv(tmp_path / "out" / "evaluation" / "predictions.csv")}
    assert table["N2"]["trust_verdict"] == "do not use" and table["N3"]["trust_reasons"] == "more fat"
    assert "N2: do not use: slices too thick" in (tmp_path / "out" / "evaluation" / "verdict.txt").read_text()


def test_scores_of_someone_elses_sct(tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()
    for patient in ("A", "B"):
        write_json(folder / f"{patient}.json", plain(metrics(patient, "given", "given", 1) | {"baselines": {}}))
    write_report(read_inputs([folder]), tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "The synthetic CT reaches a mean absolute error of" in text
    assert 'id="matrix"' not in text and "given pairs" not in text


def test_large_cohort_stays_small(tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()
    for number in range(300):
        for arm in ARMS[:2]:
            write_json(folder / f"{arm}__{arm}__Q{number:04}.json", plain(metrics(f"Q{number:04}", arm, arm, number)))
    write_report(read_inputs([folder]), tmp_path / "out")
    assert (tmp_path / "out" / "report.html").stat().st_size < 3_000_000
    assert len(read_csv(tmp_path / "out" / "evaluation" / "patients.csv")) == 600


def test_pictures_beyond_the_limit_are_left_out_and_counted():
    figures = [Figure(f"f{i}", bytes(1000), "a picture") for i in range(5)]
    kept = fitted([Section("s", "S", "", figures)], largest=3500)[0]
    assert [block.kind for block in kept.blocks] == ["figure"] * 3 + ["text"]
    assert kept.blocks[-1].text.startswith("2 more pictures are in figures/")


def test_pickled_slices_are_refused(tmp_path, study):
    folder = tmp_path / "slices"
    folder.mkdir()
    about = json.dumps({"record": "slices", "patient": "P1", "trained_on": "impact", "tested_on": "impact"})
    np.savez(folder / "any.npz", about=about, axial_ct=np.array([{"a": 1}], dtype=object))
    write_json(folder / "any.json", plain(metrics("P1", "impact", "impact", 0)))
    with pytest.raises(InputError, match="cannot be read"):
        write_report(read_inputs([folder]), tmp_path / "out")
    np.savez(folder / "any.npz", about=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError, match="cannot be read"):
        read_inputs([folder])


def test_broken_metrics_file_is_one_line(tmp_path, run_tool):
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "a.json").write_text("{")
    bad_input(run_tool("report.py", "--records", folder, "--outdir", tmp_path / "out"), "record", "a.json")
    assert not (tmp_path / "out" / "report.html").exists()


@pytest.mark.skipif(
    browser.find() is None, reason="no chromium on this machine: the page was not looked at in a browser"
)
@pytest.mark.parametrize("width", [1280, 390])
def test_in_a_browser(report, width):
    with browser.Browser(browser.find()) as page:
        page.open(report / "report.html", width)
        state = json.loads(
            page.evaluate("""JSON.stringify({
            wide: document.documentElement.scrollWidth, view: document.documentElement.clientWidth,
            broken: [...document.images].filter(i => !i.complete || i.naturalWidth === 0).length,
            images: document.images.length,
            spilling: [...document.querySelectorAll('main *, header *')].filter(e => {
                let box = e.getBoundingClientRect();
                return box.right > innerWidth + 1 && !e.closest('.table, figure div, nav'); }).length,
            scrolling: [...document.querySelectorAll('.table')].filter(e => e.scrollWidth > e.clientWidth).length,
            smallest: Math.min(...[...document.querySelectorAll('p, td, th, figcaption, dd, dt, a')]
                .map(e => parseFloat(getComputedStyle(e).fontSize))) })""")
        )
        assert page.console == []
        assert all(re.match("file:|data:|blob:", url) for url in page.requests), page.requests
    assert state["view"] == width and state["wide"] <= width and state["spilling"] == 0
    assert state["images"] > 15 and state["broken"] == 0
    assert state["smallest"] >= 12
    if width < 500:
        assert state["scrolling"] > 0  # wide tables scroll inside themselves


def test_names_are_not_data(tmp_path):
    """A bundle called impact__v2 and a patient called P__1 keep their pictures: identity is inside the records."""
    write_json(tmp_path / "1.json", plain(metrics("P__1", "impact__v2", "given", 0)))
    about = {"record": "slices", "patient": "P__1", "trained_on": "impact__v2", "tested_on": "given"}
    write_arrays(tmp_path / "1.npz", about, planes(0))
    pair = {"method": "my__arm", "patient": "P__1"}
    write_json(tmp_path / "a__b.json", {"record": "registration", **pair, "folding_fraction": 0.0})
    write_arrays(tmp_path / "c__d.npz", {"record": "preview", **pair}, {"fixed": np.zeros((3, 2, 2))})
    run = {"arm": "my__arm", "fold": "0", "group": "global"}
    write_json(tmp_path / "e__f.json", {"record": "training", **run, "log": [{"step": "1", "loss": "2"}]})
    write_json(tmp_path / "g.json", {"record": "folds", "arm": "my__arm", "test": ["P__1"]})
    (tmp_path / "h__excluded.csv").write_text("arm,patient,reason\nmy__arm,P__2,blurred\n")
    write_json(tmp_path / "other.json", {"preset": "paper"})  # no record, as a run's results hold as well
    found = read_inputs([tmp_path])
    assert set(found.slices) == {("impact__v2", "given", "P__1")} and len(found.rows) == 1
    assert set(found.previews) == {("my__arm", "P__1")} and found.qc[0]["patient"] == "P__1"
    assert set(found.logs) == {("my__arm", "0", "global")} and set(found.folds) == {"my__arm"}
    assert found.excluded == [{"arm": "my__arm", "patient": "P__2", "reason": "blurred"}]


@pytest.mark.parametrize(("asked", "chosen"), [("best,final", "best"), ("final,best", "final"), ("final", "final")])
def test_the_first_checkpoint_asked_for_stands_for_the_study(tmp_path, asked, chosen):
    folder = tmp_path / "metrics"
    folder.mkdir()
    for name in asked.split(","):
        row = {**metrics("P1", "mi", "mi", 0), "checkpoint": name}
        write_json(folder / f"{name}.json", plain(row))
    write_json(tmp_path / "settings.json", {"inference": {"checkpoint": asked}})
    found = read_inputs([folder], settings=tmp_path / "settings.json")
    assert {row["checkpoint"] for row in of_chosen_checkpoint(found.rows)} == {chosen}
