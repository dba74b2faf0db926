"""Prediction: what the ensemble computes, the same sCT whatever the orientation, batch or number of threads."""

import csv
import json
import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from models import SMALL, call, lively, write_model

from synthct.cases.store import prepare
from synthct.core import presets
from synthct.core.errors import InputError
from synthct.images.grid import Grid, Volume, from_sitk, to_sitk
from synthct.images.orientation import to_lps
from synthct.images.volume import read_mask, read_volume, write_volume
from synthct.prediction import inference

VIEWS = inference.parse_views("none,x,y")


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def rules():
    return presets.resolve("paper", "mr")["preprocessing"]


@pytest.fixture(scope="module")
def networks():
    return [lively(SMALL, 5, seed).eval() for seed in (1, 2)]


@pytest.fixture(scope="module")
def patient(root):
    """Eight slices of a real MR and its mask, with empty slices at one end."""
    directory = sorted((root / "assets" / "demo").glob("mr/*/mr.mha"))[0].parent
    image, mask = read_volume(directory / "mr.mha"), read_mask(directory / "mask.mha")
    part = (slice(6, 14), slice(6, 68), slice(8, 66))
    grid = Grid(tuple(np.array(image.array[part].shape[::-1]).tolist()), image.grid.spacing, (-31.0, 12.5, 200.0))
    inside = mask.array[part].copy()
    inside[-2:] = 0
    return Volume(np.ascontiguousarray(image.array[part]), grid), Volume(inside, grid)


def run(patient, networks, rules, **kwargs):
    options = {"modality": "mr", "channels": 5, "views": VIEWS} | kwargs
    return inference.predict(*patient, networks, rules=rules, **options)


@pytest.fixture(scope="module")
def predicted(patient, networks, rules):
    return run(patient, networks, rules)


def test_mean_and_spread_are_those_of_all_views_and_networks(patient, networks, rules):
    """Against every pass stored, on the whole plane, slices gathered one by one with reflected ends."""
    own = {**rules, "spacing": [0, 0, 0]}
    image, mask, rule = prepare(*patient, "mr", own)
    x = rule(image.array, mask.array > 0)
    depth, height, width = x.shape
    result = run(patient, networks, own, margin=512)
    for z, neighbours in ((0, (2, 1, 0, 1, 2)), (3, (1, 2, 3, 4, 5)), (5, (3, 4, 5, 6, 7))):
        outputs = []
        for network in networks:
            for axes in VIEWS:  # the plane is flipped, then padded after its end, as the released code does
                full = np.full(
                    (1, 5, math.ceil(height / 32) * 32, math.ceil(width / 32) * 32), own["padding"], np.float32
                )
                full[0, :, :height, :width] = np.flip(x[list(neighbours)], axes)
                with torch.no_grad():
                    y = network(torch.from_numpy(full))[0, 0, :height, :width].numpy()
                outputs.append(np.flip(y, axes))
        hu = (np.stack(outputs).astype(np.float64) + 1) / 2 * 4095 - 1024
        body = mask.array[z] > 0
        assert hu.mean(0)[body].std() > 50, "the test's networks must answer to what they see"
        assert np.abs(result.sct.array[z] - np.rint(hu.mean(0)))[body].max() <= 1
        np.testing.assert_allclose(result.uncertainty.array[z][body], hu.std(0)[body], atol=0.05)


def test_outside_the_mask_is_air_and_certain(patient, predicted):
    outside = patient[1].array == 0
    assert (predicted.sct.array[outside] == -1024).all() and not predicted.uncertainty.array[outside].any()
    assert predicted.sct.array.dtype == np.int16 and predicted.uncertainty.array.dtype == np.float32
    assert predicted.summary["slices"] < 8 and predicted.summary["views"] == 6
    inside = predicted.uncertainty.array[~outside]
    assert predicted.summary["mean_uncertainty_hu"] == pytest.approx(inside.mean(), abs=0.01) and inside.mean() > 1


TURNS = {
    "flip x": ((0, 1, 2), (0,), 0),
    "flip y": ((0, 1, 2), (1,), 0),
    "flip z": ((0, 1, 2), (2,), 0),
    "flip all": ((0, 1, 2), (0, 1, 2), 0),
    "sagittal": ((1, 2, 0), (), 0),
    "coronal, flipped": ((0, 2, 1), (2,), 0),
    "x and y exchanged, flipped": ((1, 0, 2), (0,), 0),
    "oblique": ((0, 1, 2), (), 14),
}


@pytest.mark.parametrize("turn", TURNS, ids=TURNS.keys())
def test_eight_orientations_give_the_same_sct_in_world_space(patient, networks, rules, predicted, turn):
    axes, flips, degrees = TURNS[turn]

    def turned(volume):
        image = sitk.PermuteAxes(to_sitk(volume), axes)
        return from_sitk(sitk.Flip(image, [axis in flips for axis in range(3)], False))

    image, mask = map(turned, patient)
    if degrees:
        spin = sitk.Euler3DTransform((0, 0, 0), math.radians(degrees), math.radians(-9), math.radians(5))
        direction = tuple(np.array(spin.GetMatrix()))
        image, mask = (
            Volume(v.array, Grid(v.grid.size, v.grid.spacing, v.grid.origin, direction)) for v in (image, mask)
        )
    result = run((image, mask), networks, rules)
    assert result.sct.grid == image.grid and result.uncertainty.grid == image.grid
    if degrees:  # the same voxels, elsewhere: the direction is kept and nothing is interpolated
        same = result.sct.array
    else:  # brought home by SimpleITK, which knows nothing of how it was turned back
        home = sitk.Resample(
            to_sitk(result.sct), to_sitk(patient[0]), sitk.Transform(), sitk.sitkNearestNeighbor, -9999
        )
        same = sitk.GetArrayFromImage(home)
    assert np.abs(same.astype(int) - predicted.sct.array).max() <= 1


def test_turning_to_lps_keeps_each_voxel_in_its_place(patient):
    grid = Grid((5, 6, 7), (1.0, 2.0, 3.0), (10.0, 20.0, 30.0), (0.0, 0.0, -1.0, 1.0, 0.0, 0.0, 0.0, -1.0, 0.0))
    volume = Volume(np.arange(210, dtype=np.int16).reshape(7, 6, 5), grid)
    turned = to_lps(volume)
    assert (np.diag(np.array(turned.grid.direction).reshape(3, 3)) > 0.9).all()
    before, after = to_sitk(volume), to_sitk(turned)
    for index in ((0, 0, 0), (4, 5, 6), (1, 3, 2)):
        place = before.TransformIndexToPhysicalPoint(index)
        assert after[after.TransformPhysicalPointToIndex(place)] == before[index]


def test_another_spacing_is_resampled_there_and_back(patient, networks, rules):
    image, mask = patient
    coarse = {**rules, "spacing": [2.0, 2.0, 3.0]}
    result = run((image, mask), networks, coarse)
    assert result.sct.grid == image.grid and result.summary["working_spacing"] == [2.0, 2.0, 3.0]
    assert (result.sct.array[mask.array == 0] == -1024).all()


class Painter(torch.nn.Module):
    """A network that has learned air outside the body, and one value within."""

    def __init__(self, value):
        super().__init__()
        self.value = torch.nn.Parameter(torch.tensor(value))

    def forward(self, x):
        return torch.where(x[:, 2:3] == -1, -1.0, self.value)


@pytest.mark.parametrize("spacing", [1.0, 1.5, 2.0, 5.0])
@pytest.mark.parametrize("first", range(4, 8))
def test_the_ends_of_the_mask_are_tissue_on_any_slice_spacing(rules, spacing, first):
    """Where the image's slices are not the network's, those between the last with body and the next are no mixture."""
    shape = (20, 40, 36)
    mask = np.zeros(shape, np.uint8)
    mask[first:15, 8:30, 8:30] = 1
    mask[12, 8:30, 8:30] = 0
    image = np.random.default_rng(1).integers(1, 500, shape).astype(np.int16)
    grid = Grid(shape[::-1], (1.0, 1.0, spacing), (3.0, 2.0, 1.0))
    painters = [Painter(0.1).eval(), Painter(0.2).eval()]
    result = run((Volume(image, grid), Volume(mask, grid)), painters, rules, views=VIEWS[:1], margin=8)
    core = (mask > 0) & (np.mgrid[:20, :40, :36][1:] > 9).all(0) & (np.mgrid[:20, :40, :36][1:] < 28).all(0)
    for z in np.flatnonzero(core.any((1, 2))):
        assert np.abs(result.sct.array[z][core[z]] - (1.15 / 2 * 4095 - 1024)).max() < 1, f"slice {z}"
        assert np.abs(result.uncertainty.array[z][core[z]] - 0.05 / 2 * 4095).max() < 0.1, f"slice {z}"
    assert (result.sct.array[mask == 0] == -1024).all() and not result.uncertainty.array[mask == 0].any()


def test_same_bits_twice_and_one_hu_at_most_for_batch_and_threads(patient, networks, rules, predicted):
    again = run(patient, networks, rules)
    assert np.array_equal(again.sct.array, predicted.sct.array)
    assert np.array_equal(again.uncertainty.array, predicted.uncertainty.array)
    batched = run(patient, networks, rules, batch=4)
    one = run(patient, networks[:1], rules, views=VIEWS[:1])
    torch.set_num_threads(2)
    two = run(patient, networks[:1], rules, views=VIEWS[:1])
    torch.set_num_threads(1)
    for other, this in ((batched, predicted), (two, one)):
        assert np.abs(other.sct.array.astype(int) - this.sct.array).max() <= 1
        assert np.abs(other.uncertainty.array - this.uncertainty.array).max() <= 1


def test_the_frame_around_the_body_is_predicted_as_if_it_were_the_plane(networks, rules):
    """It starts and ends on the network's strides, and holds the plane's own surroundings of the body."""
    z, y, x = np.mgrid[:4, :160, :192]
    body = (((y - 90) / 30) ** 2 + ((x - 100) / 40) ** 2 < 1).astype(np.uint8)
    image = (200 * body * (2 + np.sin(y / 5) * np.cos(x / 7 + z))).astype(np.int16)
    grid = Grid((192, 160, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    frame = inference.frame_around(body > 0, 33)
    assert (frame.y0, frame.x0, frame.height, frame.width) == (0, 0, 160, 192), "the whole plane when it is close"
    frame = inference.frame_around(body > 0, 8)
    assert (frame.y0, frame.x0, frame.height, frame.width) == (32, 32, 96, 128)
    part = (slice(None), slice(32, 128), slice(32, 160))
    small = Grid((128, 96, 4), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0))
    cut = Volume(np.ascontiguousarray(image[part]), small), Volume(np.ascontiguousarray(body[part]), small)
    result = run((Volume(image, grid), Volume(body, grid)), networks[:1], rules, margin=8, views=VIEWS[:2])
    alone = run(cut, networks[:1], rules, margin=512, views=VIEWS[:2])
    assert result.sct.array[body > 0].std() > 50
    assert np.abs(result.sct.array[part].astype(int) - alone.sct.array).max() <= 1
    assert (result.sct.array[body == 0] == -1024).all()


@pytest.mark.parametrize("flips", ["", "none,none", "z"])
def test_views_that_make_no_sense_are_refused(flips):
    with pytest.raises(InputError):
        inference.parse_views(flips)


def test_an_sct_that_is_not_finite_is_refused(patient, rules):
    """As an int16 it would be water everywhere."""

    class Broken(torch.nn.Conv2d):
        def forward(self, x):
            return super().forward(x) * float("nan")

    with pytest.raises(InputError, match="not finite"):
        run(patient, [Broken(5, 1, 1)], rules)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    groups = {"global": ["AB", "HN"], "HN": ["HN"]}
    return write_model(tmp_path_factory.mktemp("bundle"), groups, default_region="AB")


def test_a_list_of_patients_and_each_alone_give_the_same(bundle, patient, tmp_path):
    """Groups by region, a warning where none is given, a mask where there is none, one process for all."""
    for name in ("a", "b"):
        write_volume(patient[0], tmp_path / f"{name}.nii.gz")
    write_volume(patient[1], tmp_path / "mask.mha")
    with open(tmp_path / "list.csv", "w", newline="") as handle:
        csv.writer(handle).writerows(
            [
                ("patient", "image", "mask", "region"),
                ("p1", "a.nii.gz", "mask.mha", "HN"),
                ("p2", "b.nii.gz", "", ""),
                ("p3", "b.nii.gz", "mask.mha", "XX"),
            ]
        )
    process = call("predict.py", "--model", bundle, "--list", tmp_path / "list.csv", "--outdir", tmp_path / "out")
    assert process.returncode == 0, process.stderr
    for text in ("p2: no region given", "p2: no mask given", "p3: region XX"):
        assert text in process.stderr
    report = json.loads((tmp_path / "out" / "patients.json").read_text())
    assert [(p["patient"], p["group"]) for p in report["patients"]] == [
        ("p1", "HN"),
        ("p2", "global"),
        ("p3", "global"),
    ]
    assert all(p["mean_uncertainty_hu"] >= 0 for p in report["patients"])
    assert read_mask(tmp_path / "out" / "masks" / "p2.mha", patient[0].grid).array.mean() > 0.2
    for name, region in (("p1", "HN"), ("p3", "XX")):
        process = call(
            "predict.py",
            "--model",
            bundle,
            "--image",
            tmp_path / "a.nii.gz",
            "--mask",
            tmp_path / "mask.mha",
            "--region",
            region,
            "--out",
            tmp_path / "one.mha",
            "--uncertainty",
            tmp_path / "one_u.mha",
        )
        assert process.returncode == 0, process.stderr
        assert (tmp_path / "one.mha").read_bytes() == (tmp_path / "out" / f"{name}.mha").read_bytes()
        assert (tmp_path / "one_u.mha").read_bytes() == (tmp_path / "out" / f"{name}_uncertainty.mha").read_bytes()
    p1, p3 = (read_volume(tmp_path / "out" / f"{name}.mha").array for name in ("p1", "p3"))
    assert not np.array_equal(p1, p3), "HN has networks of its own"


def test_final_checkpoints_and_fewer_views_are_other_results(bundle, patient, tmp_path):
    write_volume(patient[0], tmp_path / "i.mha")
    write_volume(patient[1], tmp_path / "m.mha")
    common = ["--model", bundle, "--image", tmp_path / "i.mha", "--mask", tmp_path / "m.mha", "--region", "AB"]
    found = []
    for extra in ([], ["--checkpoint", "final"], ["--set", "inference.flips=none"]):
        process = call("predict.py", *common, "--out", tmp_path / "s.mha", "--uncertainty", tmp_path / "u.mha", *extra)
        assert process.returncode == 0, process.stderr
        found.append((read_volume(tmp_path / "s.mha").array, read_volume(tmp_path / "u.mha").array))
    assert not np.array_equal(found[0][0], found[1][0]) and not np.array_equal(found[0][0], found[2][0])
    assert found[0][1].any() and not found[2][1].any(), "one network, one view: nothing to disagree"


def test_each_network_s_own_sct_and_their_mean(patient, networks, rules, predicted):
    """The members are what each network predicts alone; averaged as the ensemble averages they are its sCT."""
    result = run(patient, networks, rules, apart=True)
    assert not predicted.members and len(result.members) == len(networks)
    assert np.array_equal(result.sct.array, predicted.sct.array), "asking for them changes nothing"
    assert np.array_equal(result.uncertainty.array, predicted.uncertainty.array)
    for network, member in zip(networks, result.members, strict=True):
        assert np.array_equal(member.array, run(patient, [network], rules).sct.array)
        assert member.grid == patient[0].grid and member.array.dtype == np.int16
    inside = patient[1].array > 0
    first, second = (member.array[inside].astype(int) for member in result.members)
    assert np.abs(first - second).mean() > 10, "the test's networks must disagree"
    assert np.abs((first + second) / 2 - predicted.sct.array[inside]).max() <= 1


def test_members_by_name_beside_each_patient_s_sct(patient, tmp_path):
    model = write_model(tmp_path, folds=2, flips="none")
    write_volume(patient[0], tmp_path / "i.mha")
    write_volume(patient[1], tmp_path / "m.mha")
    (tmp_path / "list.csv").write_text("patient,image,mask,region\np.1,i.mha,m.mha,AB\np2,i.mha,m.mha,AB\n")
    asked = ["--model", model, "--list", tmp_path / "list.csv", "--outdir", tmp_path, "--members", tmp_path / "own"]
    process = call("predict.py", *asked)
    assert process.returncode == 0, process.stderr
    report = json.loads((tmp_path / "patients.json").read_text())
    assert [one["members"] for one in report["patients"]] == [["fold0", "fold1"]] * 2
    for name in ("p.1", "p2"):
        made = sorted((tmp_path / "own" / name).iterdir())
        assert [path.name for path in made] == ["fold0.mha", "fold1.mha"]
        mean = np.mean([read_volume(path).array.astype(int) for path in made], axis=0)
        assert np.abs(mean - read_volume(tmp_path / f"{name}.mha").array).max() <= 1
    write_volume(patient[0], tmp_path / "own" / "p2" / "fold7.mha")
    process = call("predict.py", *asked)
    assert process.returncode == 2 and "fold7.mha" in process.stderr
    # whatever volume lies there is taken for a network's: the ensemble's own must not
    own = tmp_path / "alone"
    asked = ["--model", model, "--image", tmp_path / "i.mha", "--mask", tmp_path / "m.mha", "--region", "AB"]
    process = call("predict.py", *asked, "--out", own / "sct.mha", "--members", own)
    assert process.returncode == 2 and "sct.mha lies there" in process.stderr and not own.exists()
