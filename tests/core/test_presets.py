"""Presets: inheritance, modality and region overlays, overrides by parameter, faults in one line."""

import json
import re
import shutil

import pytest

from synthct.core.errors import InputError
from synthct.core.presets import SECTIONS, for_region, of_bundle, resolve, section


@pytest.mark.parametrize("preset", ["paper", "released", "test"])
@pytest.mark.parametrize("modality", ["mr", "cbct"])
def test_every_preset_resolves(preset, modality):
    settings = resolve(preset, modality)
    assert settings["training"]["channels"] == {"mr": 5, "cbct": 3}[modality]
    assert not any(
        key in ("mr", "cbct") for section in settings.values() if isinstance(section, dict) for key in section
    )


def test_the_papers_numbers():
    mr, cbct = resolve("paper", "mr"), resolve("paper", "cbct")
    assert (mr["training"]["patch"], cbct["training"]["patch"]) == ([320, 320], [256, 256])
    assert mr["training"]["batch"] == 32 and mr["training"]["learning_rate"] == 1e-3
    assert mr["preprocessing"]["outside"] == -1.0 and resolve("released", "mr")["preprocessing"]["outside"] == -2.0
    assert resolve("released", "cbct")["training"]["patch"] == [320, 320]
    assert (mr["folds"]["folds"], mr["folds"]["holdout"]) == (5, "75")


def test_overrides_keep_the_type():
    settings = resolve(
        "paper", "mr", ["training.batch=8", "training.patch=[64, 64]", "folds.holdout=0.2", "training.learning_rate=1"]
    )
    assert settings["training"]["batch"] == 8 and settings["training"]["patch"] == [64, 64]
    assert settings["folds"]["holdout"] == "0.2" and settings["training"]["learning_rate"] == 1.0


def test_fine_tuning_can_have_its_own_value_of_any_training_setting():
    settings = resolve("paper", "mr", ["finetuning.max_steps=7", "finetuning.perceptual.weight=2"])
    assert settings["finetuning"]["max_steps"] == 7 and settings["training"]["max_steps"] == 0
    assert settings["finetuning"]["perceptual"] == {"weight": 2.0}
    with pytest.raises(InputError, match="unknown key 'max_step'"):
        resolve("paper", "mr", ["finetuning.max_step=7"])
    with pytest.raises(InputError, match="type"):
        resolve("paper", "mr", ["finetuning.max_steps=many"])


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.bach=8", "did you mean training.batch"),
        ("training.batch=many", "type"),
        ("training.batch", "section.key=value"),
        ("nothing.at.all=1", "unknown key"),
        ("training.batch=$(id)", "characters"),
    ],
)
def test_wrong_overrides_are_refused(override, said):
    with pytest.raises(InputError, match=said):
        resolve("paper", "mr", [override])


def test_a_path_can_be_set():
    """What the messages about absent weights recommend; what could leave a quoted text cannot be set."""
    weights = "s3://lab-data/weights/vgg_19.pth"
    found = resolve("paper", "mr", [f"training.perceptual.weights={weights}"])
    assert found["training"]["perceptual"]["weights"] == weights
    for wrong in ("$(x)", "a'b", "a`b`", "a;b", "a\\b"):
        with pytest.raises(InputError, match="no setting needs"):
            resolve("paper", "mr", [f"training.perceptual.weights={wrong}"])


def test_own_preset_on_top_of_the_papers(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text('inherit = "paper"\n[training]\nbatch = 4\ncbct.channels = 7\n')
    assert resolve(own, "mr")["training"]["batch"] == 4
    assert resolve(own, "mr")["training"]["channels"] == 5 and resolve(own, "cbct")["training"]["channels"] == 7


def test_own_preset_of_the_same_name_and_elsewhere(tmp_path, root):
    """One's own paper.toml starts from the shipped one, also where only the files that a task stages are at hand."""
    own, presets = tmp_path / "own" / "paper.toml", tmp_path / "presets"
    own.parent.mkdir()
    shutil.copytree(root / "conf" / "presets", presets)
    (presets / "paper.toml").write_text(
        (presets / "paper.toml").read_text().replace("patience = 25000", "patience = 1")
    )
    own.write_text('inherit = "paper"\n[training]\nbatch = 4\n')
    found = resolve(own, "mr", directory=presets)["training"]
    assert (found["batch"], found["patience"]) == (4, 1)
    own.with_name("a.toml").write_text('inherit = "b"\n')
    own.with_name("b.toml").write_text('inherit = "a"\n')
    with pytest.raises(InputError, match="inherits it in turn"):
        resolve(own.with_name("a.toml"), "mr")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[training]\nbacth = 16", "mine.toml: unknown key training.bacth, did you mean training.batch"),
        ('[training]\nbatch = "16"', "mine.toml: training.batch: '16' is not of the type of its default 32"),
        ('[training]\npatch = ["a", 64]', "mine.toml: training.patch"),
        ("[training]\noriginals = 1", "mine.toml: training.originals"),
        ("[finetuning]\nlr_evry = 5", "mine.toml: unknown key finetuning.lr_evry"),
        ("[training.cbct]\nbacth = 16", "mine.toml: unknown key training.cbct.bacth"),
        ("[registration.elastix.mr.region.AB]\nbinz = 6", "unknown key registration.elastix.mr.region.AB.binz"),
        ("[registration.arms.impact.settings.models.mine]\nlayer = '1'", "models.mine.layer, did you mean"),
        ("[trainig]\nbatch = 16", "unknown section 'trainig'"),
        ("training = 16", "training is 16, expected a table"),
    ],
)
def test_a_slip_in_ones_own_preset_is_refused(tmp_path, text, said):
    own = tmp_path / "mine.toml"
    own.write_text(f'inherit = "released"\n{text}\n')
    with pytest.raises(InputError, match=re.escape(said)):
        resolve(own, "mr")


def test_what_ones_own_preset_may_say(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text(
        'inherit = "paper"\n[training]\nlearning_rate = 1\n[finetuning]\nlr_every = 5\nperceptual.weight = 2\n'
        "[registration.elastix.region.PELVIS]\nbins = 9\n"
        '[registration.arms.impact.settings.models.mine]\nlayers = "1"\n'
    )
    found = resolve(own, "mr")
    assert found["finetuning"]["lr_every"] == 5 and found["registration"]["elastix"]["region"]["PELVIS"]["bins"] == 9
    own.write_text("[training]\nbatch = 16\n")
    with pytest.raises(InputError, match="no section 'curation'"):
        resolve(own, "mr")


def test_a_bundle_brings_its_settings(tmp_path):
    """What is predicted with, and recorded: the bundle's numbers, under a preset that is named, under single ones."""
    about = resolve("released", "cbct", ["inference.flips=none", "inference.checkpoint=final,best"])
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    found = of_bundle(tmp_path / "bundle.json", ["inference.margin=16", "folds.folds=3"])
    assert found["inference"] == about["inference"] | {"margin": 16, "checkpoint": "final"}
    assert found["inference"]["flips"] == "none"
    assert found["preset"] == "released" and found["preprocessing"] == about["preprocessing"]
    assert "training" not in found, "what took no part in predicting is not recorded as if it had"
    named = of_bundle(tmp_path / "bundle.json", [], "paper")
    assert (named["preset"], named["inference"]["flips"]) == ("paper", "none,x,y")
    (tmp_path / "bundle.json").write_text("{}")
    with pytest.raises(InputError, match=r"bundle\.json"):
        of_bundle(tmp_path / "bundle.json", [])


def test_region_overlays():
    section = {"grid": 10, "metric": {"bins": 60, "region": {"HN": {"bins": 100}}}, "region": {"HN": {"grid": 15}}}
    assert for_region(section, "HN") == {"grid": 15, "metric": {"bins": 100}}
    assert for_region(section, "AB") == {"grid": 10, "metric": {"bins": 60}}


@pytest.mark.parametrize("preset", ["paper", "released", "test", "fast"])
@pytest.mark.parametrize("modality", ["mr", "cbct"])
@pytest.mark.parametrize("name", SECTIONS)
def test_a_resolved_file_gives_what_was_resolved(tmp_path, preset, modality, name):
    """Whole, or the section alone; as JSON of another language may write its numbers."""
    tree, file = resolve(preset, modality, ["finetuning.max_steps=7"]), tmp_path / "settings.json"
    for content in (tree, tree[name]):
        file.write_text(json.dumps(content).replace("1000.0", "1000"))
        assert section(name, settings=str(file), preset="", modality=modality) == tree[name]


def test_limits_of_an_older_run_may_be_fewer(tmp_path):
    tree = resolve("paper", "mr")["curation"] | {"limits": {"folding": 0.1}}
    (tmp_path / "settings.json").write_text(json.dumps({"curation": tree}))
    assert section("curation", settings=str(tmp_path / "settings.json"), preset="", modality="mr") == tree


def test_the_registration_of_one_arm_is_enough(tmp_path):
    """What the pipeline hands over: of the other arms and engines nothing."""
    tree, file = resolve("paper", "mr")["registration"], tmp_path / "settings.json"
    kept = {key: value for key, value in tree.items() if key not in ("arms", "dense", "sampled")}
    content = {"modality": "mr", "registration": kept | {"arms": {"elastix": tree["arms"]["elastix"]}}}
    file.write_text(json.dumps(content))
    assert section("registration", settings=str(file), preset="", modality="mr") == content["registration"]


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("preprocessing", lambda tree: tree.clear(), "no section 'preprocessing'"),
        ("preprocessing", lambda tree: tree.pop("preprocessing"), "no section 'preprocessing'"),
        ("preprocessing", lambda tree: tree["preprocessing"].pop("outside"), "no preprocessing.outside"),
        ("preprocessing", lambda tree: tree.update(preprocessing=[1]), "preprocessing is [1], expected a table"),
        ("preprocessing", lambda tree: tree.update(preprocessing=None), "preprocessing is None, expected a table"),
        ("preprocessing", lambda tree: tree["preprocessing"].update(spacing="abc"), "preprocessing.spacing: 'abc'"),
        ("preprocessing", lambda tree: tree["preprocessing"].update(spacing=[None, 1, 1]), "preprocessing.spacing"),
        ("preprocessing", lambda tree: tree["preprocessing"].update(outside=None), "preprocessing.outside: None"),
        ("preprocessing", lambda tree: tree.update(modality="cbct"), "resolved for modality cbct, expected mr"),
        ("folds", lambda tree: tree["folds"].update(foo=1), "unknown key folds.foo"),
        ("folds", lambda tree: tree["folds"].update(folds=2.5), "folds.folds: 2.5"),
        ("folds", lambda tree: tree["folds"].update(holdout=0), "folds.holdout: 0"),
        ("training", lambda tree: tree["training"]["network"].pop("init"), "no training.network.init"),
        ("training", lambda tree: tree["training"].update(patch=[64.0, 64.0]), "training.patch"),
        ("finetuning", lambda tree: tree["finetuning"].update(max_steps="7"), "finetuning.max_steps: '7'"),
        ("registration", lambda tree: tree["registration"]["elastix"].update(bins="7"), "elastix.bins: '7'"),
    ],
)
def test_a_settings_file_that_is_not_like_a_preset_is_refused(tmp_path, name, change, said):
    tree, file = resolve("test", "mr"), tmp_path / "settings.json"
    change(tree)
    file.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=rf"{re.escape(said)}") as refused:
        section(name, settings=str(file), preset="", modality="mr")
    assert "settings.json" in str(refused.value) or "whole numbers" in str(refused.value)
