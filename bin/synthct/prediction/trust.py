"""A word on each synthetic CT: use, look, or do not use, with reasons; by what the bundle's own patients teach.

The bundle's record holds, for each region and for all, the range of every feature (`synthct.prediction.features`) over
known patients, and how the ensemble's spread went with the error where a CT was there. A new patient's feature lies
beyond its range by so many widths of that range; the limits below say from when on that is a reason. Numbers: ours,
set on the shared patients (`benchmarks/trust.py` measures what they catch and what they cost).
"""

from typing import Any

import numpy as np

from synthct.cases.store import prepare
from synthct.images.grid import Volume
from synthct.images.orientation import to_lps
from synthct.prediction.features import ALL, of_output, of_spread, volume_features

USE, LOOK, NO, UNKNOWN = "use", "look", "do not use", "not judged"
FEWEST = 4  # patients; fewer teach no range
LOOK_AT, NO_FROM = 0.6, 2.0  # widths of the range beyond it
MANY = 4  # features out of range together mean another kind of image
FORMAT = 1


def learned(patients: list[dict]) -> dict:
    """The record of a bundle from `patients`: {"region", "features": {...}, "mae_hu" or None}; no names go in."""
    regions = sorted({one["region"] for one in patients if one["region"]})
    record: dict[str, Any] = {"format": FORMAT, "patients": len(patients), "regions": {}}
    for region in ["", *regions]:
        of_it = [one for one in patients if region in ("", one["region"])]
        if region and len(of_it) < FEWEST:
            continue
        ranges = {}
        for name in ALL:
            values = [one["features"][name] for one in of_it if name in one["features"]]
            if len(values) < FEWEST:
                continue  # the networks' own patients teach nothing of spread and sCT: they were learned by heart
            ranges[name] = [round(float(min(values)), 5), round(float(max(values)), 5)]
        pairs = [
            [round(one["features"]["spread_hu"], 2), round(one["mae_hu"], 2)]
            for one in of_it
            if one.get("mae_hu") is not None and "spread_hu" in one["features"]
        ]
        record["regions"][region] = {"patients": len(of_it), "ranges": ranges, "spread_and_mae_hu": sorted(pairs)}
    return record


def measured(image: Volume, mask: Volume, result, rules: dict, modality: str) -> dict[str, float]:
    """All features of one prediction: image, mask, `result` (sCT and spread) on the image's grid."""
    own, inside = to_lps(image), to_lps(mask)
    work, body, rule = prepare(own, inside, modality, rules)
    found = volume_features(work, body.array > 0, rule, own.grid)
    hit = inside.array > 0
    found |= of_output(to_lps(result.sct).array, hit, own.grid)
    return found | of_spread(to_lps(result.uncertainty).array, hit)


def judge(record: dict | None, image: Volume, mask: Volume, result, rules: dict, region: str, modality: str) -> dict:
    """{"verdict", "reasons": [...], "expected_mae_hu", "features"} of one prediction.

    `record` is the bundle's (None: it has none, and nothing is judged).
    """
    if not record or record.get("format") != FORMAT:
        return {
            "verdict": UNKNOWN,
            "reasons": ["the bundle has no record of known patients (bundle.py trust adds one)"],
        }
    part = record["regions"].get(region) or record["regions"].get("")
    if not part or part["patients"] < FEWEST:
        count = part["patients"] if part else 0
        return {
            "verdict": UNKNOWN,
            "reasons": [f"the bundle knows {count} patients, fewer than {FEWEST} teach nothing"],
        }
    features = measured(image, mask, result, rules, modality)
    verdict, reasons = weighed(features, part["ranges"])
    if wrong := _wrong_modality(image, modality):
        verdict, reasons = NO, [wrong, *reasons]
    return {
        "verdict": verdict,
        "reasons": reasons,
        "expected_mae_hu": expected(features["spread_hu"], part["spread_and_mae_hu"]),
        "known_patients": part["patients"],
        "features": {name: round(value, 4) for name, value in features.items()},
    }


def weighed(features: dict[str, float], ranges: dict) -> tuple[str, list[str]]:
    """The verdict that features earn against the known ranges, and the reasons, the strongest first."""
    found = []
    for name, feature in ALL.items():
        if name not in ranges or name not in features:
            continue
        low, high = ranges[name]
        width = max(high - low, feature.floor)
        below, above = (low - features[name]) / width, (features[name] - high) / width
        beyond, words = (above, feature.high) if above >= below else (below, feature.low)
        if beyond > LOOK_AT and words:
            unit = f" {feature.unit}" if feature.unit else ""
            found.append((beyond, f"{words} ({name} {features[name]:.3g}{unit}, seen {low:.3g} to {high:.3g})"))
    found.sort(key=lambda one: -one[0])
    strong = any(beyond > NO_FROM for beyond, _ in found) or len(found) >= MANY
    return (NO if strong else LOOK if found else USE), [words for _, words in found]


def expected(spread: float, pairs: list) -> float | None:
    """The mean absolute error (HU) that went with such a spread: a line through the known pairs, None without them."""
    if len(pairs) < FEWEST:
        return None
    x, y = np.array(pairs, float).T
    if np.ptp(x) < 1e-6:
        return round(float(y.mean()), 1)
    slope, offset = np.polyfit(x, y, 1)
    return round(float(max(slope, 0) * spread + (offset if slope > 0 else y.mean())), 1)


def line(verdict: dict) -> str:
    """A verdict for a terminal: "look: slices too thick (...)"."""
    reasons = "; ".join(verdict["reasons"][:3])
    return verdict["verdict"] + (f": {reasons}" if reasons else "")


def text(verdict: dict) -> str:
    """A verdict for a DICOM comment."""
    about = f" Expected mean error {verdict['expected_mae_hu']} HU." if verdict.get("expected_mae_hu") else ""
    return f"synthct trust: {line(verdict)}.{about}"


def _wrong_modality(image: Volume, modality: str) -> str:
    low = float(image.array.min())
    if modality == "mr" and low <= -500:
        return f"wrong modality: values down to {low:.0f} are HU, the bundle is for MR"
    if modality == "cbct" and low > -300:
        return f"wrong modality: no value below {low:.0f}, no air in HU, the bundle is for CBCT"
    return ""
