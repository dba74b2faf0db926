"""sCTs of an earlier run in one --outdir: named at the end of a run that did not make them."""

import json
import re

SCRIPT = "workflow { println(\"said: ${Leftovers.text('my results')}\") }"


def test_what_an_earlier_run_left_is_named(nextflow, root, tmp_path):
    (tmp_path / "lib").symlink_to(root / "lib")
    (tmp_path / "main.nf").write_text(SCRIPT)
    results = tmp_path / "my results"
    made = ["sct/mi/A+1.mha", "sct/mi/uncertainty/A+1.mha", "sct/mi/final/A+1.mha", "sct/mi/masks/A+1.mha"]

    def said(*names: str) -> str:
        for name in names:
            (results / name).parent.mkdir(parents=True, exist_ok=True)
            (results / name).touch()
        done = nextflow(tmp_path, "run", "main.nf")
        (text,) = re.findall("said: (.+)", done.stdout)
        return text

    assert said() == "null"
    results.mkdir()
    told = [{"@id": name} for name in ("./", "sct/mi/A%2B1.mha", "sct/mi/uncertainty/A%2B1.mha")]
    (results / "ro-crate-metadata.json").write_text(json.dumps({"@graph": told}))
    assert said(*made) == "null"
    text = said("sct/mi/GONE.mha", "sct/old/GONE.mha")
    assert "did not make: sct/mi/GONE.mha, sct/old/GONE.mha; delete" in text and "A+1" not in text
