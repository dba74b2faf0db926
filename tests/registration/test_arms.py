"""An arm is a table: known to every step, called what it is, and unknown ones are refused in one line."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import registration_phantom as phantom
from conftest import bad_input

from synthct.core import arms, presets
from synthct.core.errors import InputError
from synthct.prediction import assembly
from synthct.registration import pairwise, recipes
from synthct.study import arms as looks

MINE = """inherit = "test"
[registration.arms.mine]
engine = "dense"
direction = "image_to_ct"
label = "both at once"
compares = "MIND and mutual information"
settings.mind.weight = 2.0
settings.mi.weight = 0.5
settings.region.HN.mi.weight = 0.0
"""
THEN = (  # the MR settings of those days
    "registration.dense.magnitude=[0.004,0.004,0.004]",
    "registration.dense.stretching=[1.0,1.0,1.0]",
    "registration.dense.bending=[600,600,600]",
    "registration.dense.step_mm=[1.0,0.5,0.25]",
    "registration.dense.clip_ct=[-300,500]",
    "registration.dense.mi.bins=32",
    "registration.dense.mi.shading_mm=0",
)
BEFORE = {
    "mi": [[-0.1251, 2.2097, -1.3226], [-0.2924, 0.3422, -1.8744], [1.4840, 2.2034, 1.2505]],
    "mind": [[-0.0283, 2.9138, -1.4457], [-0.0210, 0.2971, -2.3379], [1.5639, 1.5559, 1.1814]],
}
SHEET = "patient,region,image,ct\nP1,AB,a.mha,b.mha\nP2,AB,c.mha,d.mha\n"


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.toml"
    path.write_text(MINE)
    return path


def test_an_arm_of_ones_own_is_a_table_and_no_code(own):
    section = presets.resolve(own, "mr")["registration"]
    assert arms.named(section, "elastix,mine,none") == ["elastix", "mine", "none"]
    fixed, moving, mask, _ = phantom.pair()
    mr = fixed.with_array(np.where(fixed.array < -500, 0, 900 - 0.5 * fixed.array).astype(np.int16))
    record = pairwise.register(mr, moving, mask, section, method="mine", modality="mr").quality
    assert (record["arm"], record["label"], record["recipe"]["engine"]) == ("mine", "both at once", "dense")
    assert record["recipe"]["terms"] == [
        {"compares": "MIND R1D1", "weight": 2.0},
        {"compares": "mutual information", "weight": 0.5},
    ]
    assert len(recipes.terms(recipes.recipe(section, "mine", "HN"))) == 1


def test_the_check_before_any_task_knows_the_arms(own, run_tool, tmp_path):
    (tmp_path / "sheet.csv").write_text(SHEET)
    common = ["--sheet", tmp_path / "sheet.csv", "--preset", own, "--modality", "mr", "--no-plan"]
    done = run_tool("check.py", *common, "--registration", "elastix,mine", "--out", tmp_path / "s.json")
    assert done.returncode == 0, done.stderr
    kept = json.loads((tmp_path / "s.json").read_text())["registration"]["arms"]["mine"]
    assert (kept["label"], kept["direction"]) == ("both at once", "image_to_ct")
    done = run_tool("check.py", *common, "--registration", "elastix,mime", "--out", tmp_path / "t.json")
    bad_input(
        done,
        "registration 'mime'",
        "impact, elastix, impact_dense, impact_jacobian, mi, mind, mine, none, truth",
        "[registration.arms.NAME]",
    )
    assert not (tmp_path / "t.json").exists()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ('[registration.arms.mine]\nengine = "denser"', "registration.arms.mine.engine: 'denser', expected one of"),
        ('[registration.arms.mine]\nlabel = "x"', "registration.arms.mine.engine: None"),
        ('[registration.arms.my__arm]\nengine = "none"', "registration.arms.my__arm: not a name"),
        ('[registration.arms.native]\nengine = "none"', "registration.arms.native: not a name"),
        ('[registration.arms.mine]\nengine = "dense"\ndirection = "up"', "mine.direction: 'up'"),
        ('[registration.arms.mine]\nengine = "dense"\nsettings.bendin = 1.0', "settings.bendin, did you mean"),
        ('[registration.arms.mine]\nengine = "elastix"\nsettings.mind.weight = 1.0', "mine.settings.mind"),
        ("[registration.arms.mi]\ncolor = 'red'", "did you mean registration.arms.mi.colour"),
    ],
)
def test_a_slip_in_an_arms_table_is_refused(tmp_path, table, said):
    (tmp_path / "own.toml").write_text(f'inherit = "paper"\n{table}\n')
    with pytest.raises(InputError) as refused:
        presets.resolve(tmp_path / "own.toml", "mr")
    assert said in str(refused.value)


def test_one_setting_of_one_arm_can_be_set():
    said = ["registration.arms.mi.settings.folding=7", "registration.arms.impact.settings.models.network.distance=L2"]
    section = presets.resolve("paper", "mr", said)["registration"]
    assert recipes.recipe(section, "mi").settings["folding"] == 7
    assert recipes.recipe(section, "mind").settings["folding"] == 10
    assert recipes.models_of(recipes.recipe(section, "impact").settings)["network"]["distance"] == "L2"
    with pytest.raises(InputError, match="unknown key 'foldin'"):
        presets.resolve("paper", "mr", ["registration.arms.mi.settings.foldin=7"])


def test_names_are_earned():
    """What is called IMPACT compares learnt features, or says that it does not."""
    for preset in ("paper", "released"):
        for modality, region in (("mr", "AB"), ("mr", "HN"), ("cbct", "HN")):
            section = presets.resolve(preset, modality)["registration"]
            found = recipes.recipe(section, "impact", region)
            learnt = [term for term in recipes.terms(found) if term["compares"].startswith("TS")]
            assert found.engine == "sampled"
            assert bool(learnt) == found.compares.startswith("learnt features"), found.compares
            for term in learnt:
                words = f"M{term['compares'][2:]}, layer {term['layers'][0]} ({term['mode'].title()})"
                assert words in found.compares
            if not learnt:
                assert "no learnt features" in found.compares
    for name, term in (("mi", "mutual information"), ("mind", "MIND R1D1")):
        assert [t["compares"] for t in recipes.terms(recipes.recipe(section, name))] == [term]


@pytest.mark.parametrize(("arm", "modality"), [("mi", "mr"), ("mind", "cbct")])
def test_the_dense_arms_find_what_the_dense_recipe_always_found(arm, modality):
    """Displacements (mm) at three points from before the rigid start had its trial, none being asked for."""
    fixed, moving, mask, _ = phantom.pair()
    section = phantom.section(modality, *(THEN if modality == "mr" else ()))
    if modality == "mr":
        fixed = fixed.with_array(np.where(fixed.array < -500, 0, 900 - 0.5 * fixed.array).astype(np.int16))
    field = pairwise.register(
        fixed, moving, mask, section, method=arm, modality=modality, moving_is="ct", rigid=False
    ).displacement.array
    assert np.allclose([field[15, 20, 22], field[8, 12, 30], field[22, 28, 14]], BEFORE[arm], atol=1e-3)


def test_an_arm_that_nobody_described_still_has_a_name_a_colour_and_a_marker():
    section = presets.resolve("paper", "mr")["registration"]
    shown = ["impact", "old_bundle", "other", "elastix"]
    with looks.told({"registration": section}):
        assert looks.arm_name("impact") == "IMPACT" and looks.arm_name("old_bundle") == "old_bundle"
        for look in (looks.colour, looks.marker):
            assert len({look(arm, shown) for arm in shown}) == len(shown)
        assert sorted(shown, key=looks.arm_order)[:2] == ["impact", "elastix"]
    section["arms"]["impact"]["label"] = "mine"
    with looks.told({"registration": section}):
        assert looks.arm_name("impact") == "mine"


def test_a_bundle_tells_its_arms_recipe():
    tree = presets.resolve("released", "mr")
    told = assembly._registration(tree, "impact")
    assert told["arms"]["impact"]["label"] == "IMPACT" and told["recipe"]["terms"][0]["compares"] == "TS850"
    assert assembly._registration(tree, "their_own") == {}


def test_waiting_threads_leave_the_cores_to_others():
    code = "import synthct.core.cli, os, sys; print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    environment = {key: value for key, value in os.environ.items() if key != "GOMP_SPINCOUNT"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parents[2] / "bin")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.stdout.split() == ["0", "False"], done.stderr  # in time: torch reads it when it is loaded
