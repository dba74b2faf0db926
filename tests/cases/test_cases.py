"""Cases: normalisation per the paper, reflected slices, patches, and a sampler that remembers nothing."""

import json

import numpy as np
import pytest
import small_training as small
from conftest import bad_input

from synthct.cases.intensity import ct_normalisation, measure, to_hu
from synthct.cases.store import OUTSIDE, find_cases, prepare, read_case, reflect, working_grid, write_case
from synthct.core.errors import InputError, PatientError
from synthct.core.presets import resolve
from synthct.images.grid import Grid, Volume
from synthct.images.volume import write_volume
from synthct.training.sampling import Batches, loader

LABELS = {"patient": "P", "region": "AB", "center": "A", "arm": "none"}


def rules(modality, *overrides, preset="paper"):
    return resolve(preset, modality, [f"preprocessing.{one}" for one in overrides])["preprocessing"]


def test_mr_is_standardised_inside_the_mask():
    image, _, mask = small.pair(3)
    inside = mask.array > 0
    for preset, outside in (("paper", -1), ("released", -2)):
        x = measure(image.array[inside], "mr", rules("mr", preset=preset))(image.array, inside)
        assert x[inside].mean() == pytest.approx(0, abs=1e-5)
        assert x[inside].std() == pytest.approx(1, abs=1e-5)
        assert np.all(x[~inside] == outside)


def test_cbct_is_clipped_at_the_percentile_inside_the_mask():
    image, _, mask = small.pair(3)
    inside = mask.array > 0
    values = image.array.copy()
    values[~inside] = 30000  # outside the mask nothing counts
    x = measure(values[inside], "cbct", rules("cbct"))(values, inside)
    assert (x[inside].min(), x[inside].max()) == pytest.approx((-1, 1))
    assert (x[inside] == x[inside].max()).mean() == pytest.approx(0.005, abs=0.003)
    assert np.all(x[~inside] == -1)


def test_ct_goes_to_the_unit_range_and_back():
    hu = np.array([-2000, -1024, 0, 1023.5, 3071, 9000])
    x = ct_normalisation()(hu, np.ones(6, bool))
    assert x == pytest.approx([-1, -1, -0.49988, 0, 1, 1], abs=1e-5)
    assert to_hu(x) == pytest.approx([-1024, -1024, 0, 1023.5, 3071, 3071], abs=1e-3)


def test_a_constant_image_is_refused():
    values = np.full(1000, 7)
    for stray in (7, 8):  # one voxel is no contrast
        values[5] = stray
        for modality in ("mr", "cbct"):
            with pytest.raises(InputError, match="constant"):
                measure(values, modality, rules(modality))


def test_slices_beyond_the_volume_are_reflected():
    assert [reflect(z, 4) for z in range(-3, 7)] == [3, 2, 1, 0, 1, 2, 3, 2, 1, 0]
    assert [reflect(z, 1) for z in (-2, 0, 2)] == [0, 0, 0]


@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_patch_is_what_the_normalised_volume_holds(tmp_path, kind):
    image, ct, mask = small.pair(2)
    if kind == np.float32:
        image = image.with_array(image.array.astype(np.float32) / 1000)  # as a registration may leave it
    case_rules = rules("mr", preset="released")
    write_case(tmp_path / "P", image=image, mask=mask, ct=ct, modality="mr", rules=case_rules, labels=LABELS)
    case = read_case(tmp_path / "P")
    inside = mask.array > 0
    _, _, rule = prepare(image, mask, "mr", case_rules)
    expected = rule(image.array, inside)
    x, y, body = case.patch(6, -5, 3, (48, 32), 5)
    whole = np.full((5, 48, 32), -1.0, np.float32)  # padding beyond the plane
    for k, z in enumerate((4, 5, 6, 5, 4)):  # slice 6 is the last
        whole[k, 5:45] = expected[z, :, 3:35]
    assert np.abs(x - whole).max() < 5e-4
    assert np.array_equal(body[0, 5:45], inside[6, :, 3:35])
    assert to_hu(y[0, 5:45])[inside[6, :, 3:35]] == pytest.approx(ct.array[6, :, 3:35][inside[6, :, 3:35]], abs=0.01)
    assert np.all(y[~body] == -1)


def test_slices_without_body_are_not_sampled(tmp_path):
    cases, _ = small.cohort(tmp_path)
    case = find_cases([cases])["P1"]
    assert case.body_slices == (1, 2, 3, 4, 5, 6)
    raw = np.load(case.path / "ct.npy")
    assert raw.dtype == np.int16 and np.all(raw[0] == OUTSIDE)


def test_another_spacing_keeps_the_extent():
    grid = Grid((100, 80, 30), (1.0, 1.0, 3.0), (10.0, 20.0, 30.0))
    coarse = working_grid(grid, [2.0, 2.0, 0])
    assert coarse.size == (50, 40, 30) and coarse.spacing == (2.0, 2.0, 3.0)
    assert coarse.origin == (10.5, 20.5, 30.0)  # the first voxel's corner stays at 9.5, 19.5
    assert working_grid(grid, [0, 0, 0]) is grid


def test_an_epoch_visits_every_slice_as_released(tmp_path):
    cases, _ = small.cohort(tmp_path)
    settings = small.settings("mr", "training.flip_probability=1.0")["training"]
    batches = Batches(list(find_cases([cases]).values()), settings)
    assert batches.per_epoch == 2 * 4 * 6  # originals and one copy of 4 patients × 6 slices
    seen = [batches.sample(number) for number in range(batches.per_epoch)]
    first = [batches.sample(number)[0].tobytes() for number in range(batches.per_epoch)]
    second = [batches.sample(number + batches.per_epoch)[0].tobytes() for number in range(batches.per_epoch)]
    assert first != second  # another order and other positions each epoch
    assert first == [one[0].tobytes() for one in seen]  # but the same sample for the same number


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_do_not_depend_on_start_or_workers(tmp_path, workers):
    cases, _ = small.cohort(tmp_path)
    settings = small.settings()["training"]
    listed = list(find_cases([cases]).values())
    straight = [x for x, _, _ in loader(Batches(listed, settings), 0, 5, 0, False)]
    later = [x for x, _, _ in loader(Batches(listed, settings), 3, 5, workers, False)]
    assert all(a.equal(b) for a, b in zip(straight[3:], later, strict=True))


def test_processes_share_a_batch(tmp_path):
    cases, _ = small.cohort(tmp_path)
    settings = small.settings()["training"]
    listed = list(find_cases([cases]).values())
    whole = Batches(listed, settings)[4][0]
    halves = [Batches(listed, settings, rank, 2)[4][0] for rank in (0, 1)]
    assert whole[0].equal(halves[0][0]) and whole[1].equal(halves[1][0])


def test_the_tool_writes_a_case(tmp_path, run_tool):
    image, ct, mask = small.pair(1)
    for name, volume in (("image", image), ("ct", ct), ("mask", mask)):
        write_volume(volume, tmp_path / f"{name}.nii.gz")
    given = [
        "--modality",
        "mr",
        "--image",
        tmp_path / "image.nii.gz",
        "--mask",
        tmp_path / "mask.nii.gz",
        "--ct",
        tmp_path / "ct.nii.gz",
    ]
    done = run_tool("preprocess.py", *given, "--region", "TH", "--out", tmp_path / "STS")
    assert done.returncode == 0, done.stderr
    case = json.loads((tmp_path / "STS" / "case.json").read_text())
    assert (case["patient"], case["region"], case["preprocessing"]["outside"]) == ("STS", "TH", -1.0)
    assert read_case(tmp_path / "STS").has_ct
    bad_input(run_tool("preprocess.py", *given, "--out", tmp_path), tmp_path.name, "holds the input")
    (tmp_path / "STS" / "notes.txt").write_text("mine")
    bad_input(run_tool("preprocess.py", *given, "--out", tmp_path / "STS"), "notes.txt", "would be lost")
    (tmp_path / "STS" / "notes.txt").unlink()
    assert run_tool("preprocess.py", *given, "--out", tmp_path / "STS").returncode == 0
    (tmp_path / "link").symlink_to(tmp_path)  # an image staged under the patient's name: the link alone is replaced
    assert run_tool("preprocess.py", *given, "--out", tmp_path / "link").returncode == 0
    assert (tmp_path / "image.nii.gz").exists() and read_case(tmp_path / "link").has_ct


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path, root, run_tool, small_disk):
    """numpy, which writes the arrays, says only how much of them it wrote."""
    pair = root / "assets/demo/mr/STS_018"
    given = ("--image", pair / "mr.mha", "--ct", pair / "ct.mha", "--mask", pair / "mask.mha")
    place = small_disk("1m")
    done = run_tool("preprocess.py", "--modality", "mr", *given, "--out", place / "STS_018")
    bad_input(done, "no room left on the disk")
    assert not list(place.iterdir())


def test_the_tool_refuses_what_does_not_fit(tmp_path, run_tool):
    image, ct, mask = small.pair(1)
    shifted = Volume(ct.array, Grid(ct.grid.size, ct.grid.spacing, (0.0, 0.0, 0.0)))
    for name, volume in (("image", image), ("ct", shifted), ("mask", mask)):
        write_volume(volume, tmp_path / f"{name}.mha")
    done = run_tool(
        "preprocess.py",
        "--modality",
        "mr",
        "--image",
        tmp_path / "image.mha",
        "--mask",
        tmp_path / "mask.mha",
        "--ct",
        tmp_path / "ct.mha",
        "--out",
        tmp_path / "case",
    )
    bad_input(done, "ct.mha", "origin")
    assert not (tmp_path / "case").exists()


def test_a_damaged_case_is_named(tmp_path):
    cases, _ = small.cohort(tmp_path, 1)
    with open(cases / "P0" / "ct.npy", "r+b") as file:
        file.truncate(500)
    with pytest.raises(InputError, match="ct.npy"):
        find_cases([cases])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("box", None),
        ("box", [0, 7, -3, 37, 0, 32]),
        ("normalisation", None),
        ("normalisation", {"scale": "1", "offset": 0.0, "clip": None, "outside": -1.0}),
        ("grid", {"size": [36, 40]}),
        ("body_slices", [99]),
        ("patient", 7),
        ("sha256", {"image": 5}),
        ("preprocessing", {"spacing": "1"}),
        ("preprocessing", {"spacing": [1.0, 1.0, 3.0]}),
    ],
)
def test_a_case_with_a_wrong_description_is_named(tmp_path, key, value):
    cases, _ = small.cohort(tmp_path)
    file = cases / "P1" / "case.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {key: value}))
    with pytest.raises(InputError, match=rf"P1/case\.json.*{key}"):
        find_cases([cases])


def test_a_grid_that_memory_cannot_hold_is_refused_unmade():
    image, _, mask = small.pair(3)
    fine = rules("mr") | {"spacing": [0.001, 0.001, 0.1]}  # what no preset may say (core/limits)
    with pytest.raises(PatientError, match=r"preprocessing\.spacing.*GiB of memory are needed"):
        prepare(image, mask, "mr", fine)


def test_an_array_that_is_not_the_one_written_is_named(tmp_path):
    cases, _ = small.cohort(tmp_path)
    found = find_cases([cases])
    for case in found.values():
        case.check_arrays()
    file = cases / "P1" / "ct.npy"
    whole = file.read_bytes()
    file.write_bytes(whole[:-400] + bytes(400))
    with pytest.raises(InputError, match=r"P1: ct\.npy is not the array that was written"):
        found["P1"].check_arrays()
