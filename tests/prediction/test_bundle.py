"""Model bundles: made from a training, from the authors' published checkpoints, looked into, verified."""

import json
import os
import pickle

import pytest
import torch
from conftest import bad_input
from models import SMALL, call, lively, write_checkpoints, write_settings

from synthct.core.files import sha256_of
from synthct.networks.checkpoint import load_weights, save_weights
from synthct.prediction import bundle as bundles


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Two folds of a global training and of one group, as directories, with the study's settings and folds."""
    work = tmp_path_factory.mktemp("trained")
    tree = write_settings(work / "settings.json", "mr")
    directories = write_checkpoints(work, tree, folds=2, groups={"global": ["AB", "HN"], "HN": ["HN"]})
    (work / "folds.json").write_text(
        json.dumps(
            {
                "format": 1,
                "seed": 32,
                "test": ["t1"],
                "folds": [{"train": ["a", "b"], "validation": ["c"]}, {"train": ["c"], "validation": ["a", "b"]}],
                "regions": {"a": "AB", "b": "HN", "c": "HN", "t1": "AB"},
                "excluded": {"x": "bad registration"},
            }
        )
    )
    return work, directories


def create(trained, out, *extra, folds=True):
    work, directories = trained
    cohort = ("--cohort", work / "folds.json") if folds else ()
    return call(
        "bundle.py",
        "create",
        "--checkpoints",
        *directories,
        "--settings",
        work / "settings.json",
        *cohort,
        "--arm",
        "impact",
        "--out",
        out,
        *extra,
    )


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "model"
    process = create(trained, out)
    assert process.returncode == 0, process.stderr
    return out


def test_a_bundle_says_what_it_is(made, trained):
    about = json.loads((made / "bundle.json").read_text())
    assert (about["format"], about["preset"], about["modality"], about["arm"]) == (1, "paper", "mr", "impact")
    assert about["channels"] == 5 and about["spacing"] == [1.0, 1.0, 3.0] and about["network"] == SMALL
    assert about["groups"]["HN"]["best"] == ["HN_fold0_best.safetensors", "HN_fold1_best.safetensors"]
    assert about["groups"]["global"]["regions"] == ["AB", "HN"]
    assert about["training"] == {
        "patients": 3,
        "regions": {"AB": 1, "HN": 2},
        "held_out": 1,
        "excluded": 1,
        "folds": 2,
    }
    assert about["default_region"] == "HN", "the region of most patients"
    assert about["metrics"]["HN_fold0_best.safetensors"] == {"step": 40, "validation_mae": 80.5}
    assert set(about["files"]) == {path.name for path in made.glob("*.safetensors")} and len(about["files"]) == 8
    for name, digest in about["files"].items():
        assert sha256_of(made / name) == digest
    assert "'a'" not in json.dumps(about).replace('"', "'"), "no patient's name leaves with the bundle"


def test_weights_are_linked_not_copied(made, trained):
    assert (made / "HN_fold1_final.safetensors").samefile(trained[0] / "HN_1" / "final.safetensors")


def test_inspect_and_verify(made):
    process = call("bundle.py", "inspect", made)
    assert process.returncode == 0 and json.loads(process.stdout)["modality"] == "mr"
    process = call("bundle.py", "verify", made)
    assert process.returncode == 0 and process.stdout.rstrip().endswith("whole"), process.stderr


def test_the_networks_are_those_that_were_trained(made, trained):
    networks = bundles.read_bundle(made).networks("HN", "final", torch.device("cpu"))
    weights, _ = load_weights(trained[0] / "HN_1" / "final.safetensors")
    for key, value in networks[1].state_dict().items():
        assert torch.equal(value, weights[key]), key
    assert not networks[0].training and len(networks) == 2


def test_region_decides_the_networks(made):
    bundle = bundles.read_bundle(made)
    assert bundle.group_for("HN") == ("HN", None)
    assert bundle.group_for("AB") == ("global", None)
    group, warning = bundle.group_for("XX")
    assert group == "global" and "XX" in warning
    group, warning = bundle.group_for(None)
    assert group == "HN" and "default HN" in warning


def test_a_training_without_regions_predicts_whom_it_is_given(tmp_path):
    tree = write_settings(tmp_path / "settings.json", "mr")
    directories = write_checkpoints(tmp_path, tree, folds=1, groups={"global": [""]})
    assert create((tmp_path, directories), tmp_path / "m", folds=False).returncode == 0
    bundle = bundles.read_bundle(tmp_path / "m")
    assert bundle.group_for("") == bundle.group_for(None) == ("global", None)
    group, warning = bundle.group_for("AB")
    assert group == "global" and "AB" in warning
    other = bundles.Bundle(bundle.path, bundle.about | {"groups": {"A": {"regions": [""]}, "B": {"regions": ["HN"]}}})
    assert other.group_for("HN") == ("B", None) and other.group_for("XX")[0] == other.group_for("")[0] == "A"


def test_verify_finds_a_changed_byte_and_a_stray_file_list(trained, tmp_path):
    create(trained, tmp_path / "model")
    name = tmp_path / "model" / "HN_fold0_best.safetensors"
    data = bytearray(name.read_bytes())
    name.unlink()
    data[-4] ^= 64
    name.write_bytes(data)
    bad_input(call("bundle.py", "verify", tmp_path / "model"), "HN_fold0_best.safetensors", "SHA-256")


def test_numbers_that_no_network_can_have_are_named(trained, tmp_path):
    """They would make an sCT of nothing but water: at the gathering, and where a bundle holds them already."""
    work, directories = trained
    weights, about = load_weights(directories[0] / "best.safetensors")
    for key, value, said in (
        ("encoder.conv1.weight", float("nan"), "not finite"),
        ("segmentation_head.0.bias", float("inf"), "not finite"),
        ("encoder.bn1.running_var", -1.0, "0 or more"),
    ):
        tensor = weights[key].clone()
        tensor.view(-1)[0] = value
        save_weights(tmp_path / "bad" / "best.safetensors", {**weights, key: tensor}, about)
        done = create((work, [tmp_path / "bad"]), tmp_path / "model", folds=False)
        bad_input(done, "bad/best.safetensors", key, said)
        assert not (tmp_path / "model").exists()
    torch.save(weights, tmp_path / "CV_0.pt")
    assert importing(tmp_path / "imported", [tmp_path / "CV_0.pt"], "HN", "HN").returncode == 0
    held = next((tmp_path / "imported").glob("*.safetensors"))
    save_weights(held, {**weights, key: tensor}, about)
    description = json.loads((tmp_path / "imported" / "bundle.json").read_text())
    description["files"][held.name] = sha256_of(held)
    description["digest"] = bundles._digest(description)
    (tmp_path / "imported" / "bundle.json").write_text(json.dumps(description))
    bad_input(call("bundle.py", "verify", tmp_path / "imported"), held.name, key, "0 or more")
    torch.save({**weights, key: tensor}, tmp_path / "CV_1.pt")
    bad_input(importing(tmp_path / "again", [tmp_path / "CV_1.pt"], "HN", "HN"), "CV_1.pt", key, "0 or more")


def test_networks_retrained_on_everyone_replace_the_folds(trained, tmp_path):
    work, _ = trained
    tree = write_settings(tmp_path / "settings.json", "mr")
    for directory in write_checkpoints(tmp_path, tree, folds=2, groups={"HN": ["HN"]}):
        for kind in ("best", "final"):
            weights, about = load_weights(directory / f"{kind}.safetensors")
            fold = "all" if about["fold"] == "0" else "all-1"
            save_weights(directory / f"{kind}.safetensors", weights, about | {"fold": fold})
    process = call(
        "bundle.py",
        "create",
        "--checkpoints",
        work / "HN_0",
        work / "HN_1",
        work / "global_0",
        tmp_path / "HN_0",
        tmp_path / "HN_1",
        "--settings",
        tmp_path / "settings.json",
        "--arm",
        "impact",
        "--out",
        tmp_path / "model",
    )
    assert process.returncode == 0, process.stderr
    groups = json.loads((tmp_path / "model" / "bundle.json").read_text())["groups"]
    assert groups["HN"]["best"] == ["HN_foldall-1_best.safetensors", "HN_foldall_best.safetensors"]
    assert groups["global"]["best"] == ["global_fold0_best.safetensors"]


def test_checkpoints_that_do_not_belong_together(trained, tmp_path):
    work, directories = trained
    bad_input(create((work, [*directories, directories[0]]), tmp_path / "m"), "both are")
    tree = write_settings(tmp_path / "cbct.json", "cbct")
    other = write_checkpoints(tmp_path, tree, folds=1, groups={"AB": ["AB"]})
    bad_input(create((work, [*directories, *other]), tmp_path / "m"), "modality", "cbct")
    bad_input(
        call(
            "bundle.py",
            "create",
            "--checkpoints",
            directories[0],
            "--settings",
            tmp_path / "cbct.json",
            "--arm",
            "x",
            "--out",
            tmp_path / "m",
        ),
        "modality mr",
        "cbct",
    )
    bad_input(create((work, [tmp_path]), tmp_path / "m"), "neither best.safetensors nor final.safetensors")
    bad_input(create(trained, tmp_path / "m", "--default-region", "LEG"), "LEG", "AB, HN")
    assert not (tmp_path / "m").exists()


def test_a_directory_with_other_things_is_not_replaced(trained, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    (out / "thesis.tex").write_text("years")
    bad_input(create(trained, out), "model", "thesis.tex", "would be lost")
    bad_input(create(trained, trained[1][0]), "holds the input")
    file = published(out / "CV_0.pt", lively(SMALL, 5, 1))
    (out / "thesis.tex").unlink()
    bad_input(importing(out, [file], "HN", "HN"), "holds the input", "CV_0.pt")
    file.rename(tmp_path / "CV_0.pt")
    for _ in range(2):  # empty, and then its own
        assert importing(out, [tmp_path / "CV_0.pt"], "HN", "HN").returncode == 0
    assert importing(tmp_path / "new" / "model", [tmp_path / "CV_0.pt"], "HN", "HN").returncode == 0


def test_settings_other_than_the_networks_were_trained_with(trained, tmp_path):
    """What would shift every Hounsfield unit is refused; a region's own values count for its networks alone."""
    tree = write_settings(tmp_path / "settings.json", "mr")
    (directory,) = write_checkpoints(tmp_path, tree, folds=1, groups={"HN": ["HN"]})
    for kind in ("best", "final"):
        weights, about = load_weights(directory / f"{kind}.safetensors")
        about["settings"]["preprocessing"] = tree["preprocessing"]
        save_weights(directory / f"{kind}.safetensors", weights, about)

    def made(**own):
        other = tree | {"preprocessing": tree["preprocessing"] | own}
        (tmp_path / "settings.json").write_text(json.dumps(other))
        return create((tmp_path, [directory]), tmp_path / "m", folds=False)

    for key, value in (("outside", -2.0), ("spacing", [1.0, 1.0, 2.0]), ("ct_range", [-1024, 2000]), ("padding", 0.0)):
        bad_input(made(**{key: value}), "safetensors", f"preprocessing.{key}", str(value))
    bad_input(made(region={"HN": {"outside": -2.0}}), "preprocessing.outside", "for region HN")
    assert not (tmp_path / "m").exists()
    done = made(region={"AB": {"outside": -2.0}}, cbct_percentile=90.0)  # of others, and of no matter to MR
    assert done.returncode == 0, done.stderr


def published(path, model, name="UNetpp5", **extra):
    """A checkpoint in the layout that the authors published."""
    weights = {f"model.{key}": value for key, value in model.state_dict().items()}
    optimiser = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]}
    torch.save({"Model": {name: weights}, f"{name}_optimizer_state_dict": optimiser, f"{name}_it": 7, **extra}, path)
    return path


def importing(out, files, group, regions, *extra, modality="mr"):
    return call(
        "bundle.py",
        "import",
        "--checkpoints",
        *files,
        "--group",
        group,
        "--regions",
        regions,
        "--modality",
        modality,
        "--set",
        "training.network.encoder=resnet18",
        "--set",
        "training.network.decoder_channels=[32, 32, 16, 16, 8]",
        "--out",
        out,
        *extra,
    )


def test_published_checkpoints_are_imported_group_by_group(tmp_path):
    models = [lively(SMALL, 5, seed) for seed in (1, 2, 3)]
    files = [published(tmp_path / f"CV_{k}.pt", model) for k, model in enumerate(models)]
    process = importing(tmp_path / "model", files[:2], "AB+TH", "AB,TH")
    assert process.returncode == 0, process.stderr
    process = importing(tmp_path / "model", files[2:], "HN", "HN", "--append")
    assert process.returncode == 0, process.stderr
    assert call("bundle.py", "verify", tmp_path / "model").returncode == 0
    bundle = bundles.read_bundle(tmp_path / "model")
    assert bundle.about["preset"] == "released" and bundle.about["preprocessing"]["outside"] == -2.0
    assert bundle.group_for("TH")[0] == "AB+TH" and bundle.group_for("HN")[0] == "HN"
    x = torch.randn(1, 5, 32, 32, generator=torch.Generator().manual_seed(0))
    for group, originals in (("AB+TH", models[:2]), ("HN", models[2:])):
        for network, original in zip(bundle.networks(group, "best", torch.device("cpu")), originals, strict=True):
            with torch.no_grad():
                assert torch.equal(network(x), original.eval()(x))
    bad_input(importing(tmp_path / "model", files[2:], "HN", "HN", "--append"), "already")
    bad_input(importing(tmp_path / "model", files[2:], "X", "X", "--append", modality="cbct"), "modality mr")
    assert not list(tmp_path.glob(".importing*"))


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_pickle_with_code_is_refused_and_not_run(tmp_path):
    file = published(tmp_path / "CV_0.pt", lively(SMALL, 5, 1), note=Harmful(str(tmp_path / "harmed")))
    bad_input(importing(tmp_path / "model", [file], "HN", "HN"), "CV_0.pt", "refused")
    assert not (tmp_path / "harmed").exists() and not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"Model": {"Other": {}}}, "Other"),
        ({"Model": {"UNetpp": {"model.encoder.conv1.weight": torch.zeros(2, 2)}}}, "conv1"),
        ([1, 2], "neither weights nor"),
    ],
)
def test_files_of_another_layout(tmp_path, content, text):
    torch.save(content, tmp_path / "CV_0.pt")
    bad_input(importing(tmp_path / "model", [tmp_path / "CV_0.pt"], "HN", "HN"), "CV_0.pt", text)


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "a.pt").write_bytes(b"hello")
    bad_input(importing(tmp_path / "model", [tmp_path / "a.pt"], "HN", "HN"), "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps([1]))
    bad_input(importing(tmp_path / "model", [tmp_path / "b.pt"], "HN", "HN"), "b.pt")
    file = published(tmp_path / "c.pt", lively(SMALL, 5, 1))
    os.truncate(file, file.stat().st_size // 2)
    bad_input(importing(tmp_path / "model", [file], "HN", "HN"), "c.pt")
