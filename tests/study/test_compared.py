"""What a study's registrations compared, as labels and lines, and which trainings are missing from it."""

from synthct.study import compared
from synthct.study.missing import missing

SHA = "19bc5e03a32c84fe" + "0" * 48
NETWORK = {"compares": "TS730", "weight": 0.25, "layers": [2], "distance": "L1", "mode": "static"}
MIND = {"compares": "MIND R1D2", "weight": 0.75, "layers": [1], "distance": "L1", "mode": "static"}
IMPACT = {"engine": "sampled", "terms": [NETWORK, MIND], "weights": {"M730_2_Layers.pt": SHA}}
DENSE = {"engine": "dense", "terms": [{"compares": "mutual information", "weight": 1.0}], "weights": {}}


def test_label_and_line_name_extractor_layer_distance_and_digest():
    qc = [{"method": "impact", "recipe": IMPACT}] * 2 + [{"method": "mi", "recipe": DENSE}, {"method": "none"}]
    found = compared.by_arm(qc, {})
    assert found == {"impact": [IMPACT], "mi": [DENSE]}
    assert compared.tag(found["impact"]) == ["TS730 layer 2 + MIND R1D2 layer 1", "static, L1", "19bc5e03"]
    assert compared.tag(found["mi"]) == []
    said = compared.line("IMPACT", found["impact"])
    assert "0.25 TS730 layer 2 (static, L1) + 0.75 MIND" in said and "M730_2_Layers.pt (19bc5e03a32c)" in said


def test_a_bundle_tells_what_its_pairs_were_made_by():
    settings = {"registration": {"arms": {"impact": {}}, "made_by": [IMPACT]}}
    assert compared.by_arm([], settings) == {"impact": [IMPACT]}


def test_an_arm_whose_training_failed_is_named_with_its_folds():
    plan = {
        "folds": [{"train": ["a", "b"], "validation": ["c"]}, {"train": ["c"], "validation": ["a", "b"]}],
        "regions": {"a": "AB", "b": "HN", "c": "AB"},
    }
    settings = {"finetuning": {"groups": "AB+TH,HN"}}
    logs = {("impact", "0", group) for group in ("global", "AB-TH", "HN")}
    logs |= {("impact", "1", group) for group in ("global", "AB-TH")}  # nobody of HN to train on there
    logs |= {("mi", "0", "global"), ("mi", "0", "AB-TH"), ("mi", "0", "HN")}
    assert missing({"impact": plan}, logs, settings) == []
    (said,) = missing({"impact": plan, "mi": plan}, logs, settings)
    assert said.startswith("dense MI is missing") and "training of fold 1 failed" in said and "-resume" in said
    (said,) = missing({"mi": plan}, logs - {("mi", "0", "HN")} | {("mi", "1", "global")}, settings)
    assert "fold 0 (HN), fold 1 (AB-TH)" in said
    assert missing({"impact": plan}, set(), settings) == []
    assert missing({"mi": plan}, logs, settings, scores=["mi"]) == []
