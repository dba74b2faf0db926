"""What a bundle's known patients teach: how images look, and for those held out how spread went with error.

Patients that the networks were trained on teach only what input looks like; their sCTs are better than a new one's.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from synthct.core import presets
from synthct.core.errors import InputError
from synthct.core.records import read_folds
from synthct.core.tables import read_object, read_table
from synthct.images.volume import read_mask, read_volume
from synthct.prediction import inference, trust
from synthct.prediction.bundle import Bundle, with_record


def teach(bundle: Bundle, sheet, folds, device: torch.device, say: Callable[[str], None]) -> Bundle:
    """Measure the patients of a samplesheet (CSV) and write what they teach into the bundle.

    `folds` (folds.json, or None) says who was held out; patients of none of its lists are taken as held out too.
    """
    trained = {name for fold in read_folds(folds) for part in fold for name in part} if folds else set()
    base, patients = Path(sheet).parent, []
    for row in read_table(sheet, "sheet", ("patient", "image", "mask")):
        if not row["image"] or not row["mask"]:
            raise InputError(
                f"sheet {sheet}, line {row.line}: patient {row['patient']!r}: expected an image and a mask"
            )
        one = measure(bundle, base, row, device, held_out=row["patient"] not in trained)
        patients.append(one)
        error = f", MAE {one['mae_hu']:.1f} HU" if one["mae_hu"] is not None else ""
        say(f"{row['patient']}: {'held out' if row['patient'] not in trained else 'trained on'}{error}")
    return with_record(bundle, "trust", trust.learned(patients))


def learn(bundle: Bundle, summaries, metrics) -> dict:
    """The record that a study's held-out patients teach its bundle: features from the `summaries` of predict.py on
    the given images, errors from the `metrics` of evaluate.py where the bundle's arm is trained and tested on; both
    are directories of JSON files.

    Raises `InputError` for files that are none of these; patients of other bundles and arms are passed over.
    """
    arm, patients = bundle.about["arm"], []
    errors: dict[str, dict] = {}
    for path in sorted(Path(metrics).glob("*.json")):
        scored = read_object(path, "metrics")  # one that failed has no error to learn from
        if scored.get("trained_on") == scored.get("tested_on") == arm:
            errors.setdefault(str(scored.get("patient")), {})[scored.get("checkpoint")] = scored.get("mae")
    for path in sorted(Path(summaries).glob("*.json")):
        summary = read_object(path, "summary of predictions")
        if (summary.get("model") or {}).get("digest") != bundle.digest:
            continue
        for one in summary.get("patients", []):
            error = errors.get(one["patient"], {}).get(one["checkpoint"])
            known = {key: one["trust"][key] for key in ("features", "thumbnail")}
            patients.append(
                known | {"region": one.get("region") or "", "mae_hu": error if isinstance(error, int | float) else None}
            )
    return {"bundle": bundle.digest, **trust.learned(patients)}


def measure(bundle: Bundle, base: Path, row: dict, device: torch.device, held_out: bool) -> dict:
    """One patient's region, features and mean absolute error (HU, within the mask; None without a CT)."""
    about, region = bundle.about, row.get("region") or ""
    image = read_volume(base / row["image"])
    mask = read_mask(base / row["mask"], image.grid)
    rules = presets.for_region(about["preprocessing"], region or about["default_region"])
    if not held_out:
        return {"region": region, "mae_hu": None, **trust.measured(image, mask, None, rules, about["modality"])}
    result = predicted(bundle, image, mask, region, device)
    seen, error = trust.measured(image, mask, result, rules, about["modality"]), None
    if row.get("ct"):
        ct = read_volume(base / row["ct"], "CT")
        if difference := ct.grid.differs_from(image.grid):
            raise InputError(f"CT {row['ct']}: another grid than its image ({difference})")
        inside = mask.array > 0
        low, high = rules["ct_range"]
        error = float(np.abs(result.sct.array[inside] - np.clip(ct.array[inside].astype(np.float64), low, high)).mean())
    return {"region": region, "mae_hu": error, **seen}


def predicted(bundle: Bundle, image, mask, region: str, device: torch.device) -> inference.Prediction:
    """The bundle's prediction under its own settings."""
    about = bundle.about
    settings = about["inference"]
    group, _ = bundle.group_for(region or None)
    networks = bundle.networks(group, presets.checkpoints(settings["checkpoint"])[0], device)
    return inference.predict_by(about, settings, networks, image, mask, region)
