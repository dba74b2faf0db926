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
from synthct.prediction.features import (
    ALL,
    SMALL,
    TURNS,
    alike,
    detail_of,
    of_output,
    of_spread,
    righter,
    thumbnail,
    volume_features,
)

USE, LOOK, NO, UNKNOWN = "use", "look", "do not use", "not judged"
FEWEST = 4  # patients; fewer teach no range
LOOK_AT, NO_FROM = 0.6, 2.0  # widths of the range beyond it
TURNED_BY = 0.5  # of the known patients' median margin, the wrong way: surely turned over
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
        looks = _looks([np.array(one["thumbnail"]) for one in of_it if one.get("thumbnail") is not None])
        ranges |= looks.pop("ranges", {})
        record["regions"][region] = {
            "patients": len(of_it),
            "ranges": ranges,
            "spread_and_mae_hu": sorted(pairs),
            **looks,
        }
    return record


def _looks(smalls: list[np.ndarray]) -> dict:
    """What known patients' thumbnails teach: their mean, how alike each is to the mean of the others, and how much
    more so than turned over along an axis; {} for fewer than `FEWEST` patients."""
    if len(smalls) < FEWEST:
        return {}
    smalls = [small.reshape(SMALL, SMALL, SMALL) for small in smalls]
    total, others = np.sum(smalls, axis=0), len(smalls) - 1
    means = [(total - small) / others for small in smalls]
    likeness = [alike(small, mean) for small, mean in zip(smalls, means, strict=True)]
    turns = {
        name: sorted(round(righter(small, mean, axis), 3) for small, mean in zip(smalls, means, strict=True))
        for name, axis in TURNS.items()
    }
    mean = [round(float(value), 2) for value in (total / len(smalls)).ravel()]
    return {"ranges": {"likeness": [round(min(likeness), 4), round(max(likeness), 4)]}, "turns": turns, "mean": mean}


def measured(image: Volume, mask: Volume, result, rules: dict, modality: str) -> dict:
    """{"features": all of one prediction, "thumbnail": of its image}; `result` (sCT and spread) lies on the image's
    grid, and without one (None) the features are the image's alone."""
    own, inside = to_lps(image), to_lps(mask)
    work, body, rule = prepare(own, inside, modality, rules)
    found = volume_features(work, body.array > 0, rule, own.grid)
    small = thumbnail(rule(work.array, body.array > 0), body.array > 0)
    found["symmetry"] = alike(small, np.flip(small, 2))
    if result is not None:
        hit = inside.array > 0
        found |= of_output(to_lps(result.sct).array, hit, own.grid)
        found |= of_spread(to_lps(result.uncertainty).array, hit)
    return {
        "features": {name: round(float(value), 4) for name, value in found.items()},
        "thumbnail": [round(float(value), 2) for value in small.ravel()],
    }


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
    seen = measured(image, mask, result, rules, modality)
    verdict, reasons = against(part, seen)
    features = seen["features"]
    if wrong := wrong_modality(image, modality):
        verdict, reasons = NO, [wrong, *reasons]
    return {
        "verdict": verdict,
        "reasons": reasons,
        "expected_mae_hu": expected(features["spread_hu"], part["spread_and_mae_hu"]),
        "known_patients": part["patients"],
        "features": features,
    }


def against(part: dict, seen: dict) -> tuple[str, list[str]]:
    """The verdict that what is `measured` of a patient earns against one region's part of a record, and the reasons."""
    features, small = dict(seen["features"]), np.array(seen["thumbnail"]).reshape(SMALL, SMALL, SMALL)
    turned, worst = [], USE
    if "mean" in part:
        mean = np.array(part["mean"]).reshape(SMALL, SMALL, SMALL)
        features["likeness"] = alike(small, mean)
        for name, axis in TURNS.items():
            usual, here = part["turns"][name], righter(small, mean, axis)
            if min(usual) > 0 > here:  # only where every known patient tells which way round is right
                turned.append(f"resembles the known patients more when turned {name}")
                sure = here < -TURNED_BY * float(np.median(usual))
                worst = NO if sure or worst == NO else LOOK
    verdict, reasons = weighed(features, part["ranges"])
    return (NO if NO in (verdict, worst) else LOOK if LOOK in (verdict, worst) else USE), [*turned, *reasons]


def weighed(features: dict[str, float], ranges: dict) -> tuple[str, list[str]]:
    """The verdict that features earn against the known ranges, and the reasons, the strongest first."""
    found = []
    if "noise" in ranges:  # records from before `detail` have it too
        ranges = {"detail": [round(detail_of(end), 5) for end in ranges["noise"]]} | ranges
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


def wrong_modality(image: Volume, modality: str) -> str:
    """What says that an image is not of `modality`, from its lowest value; "" if nothing does."""
    low = float(image.array.min())
    if modality == "mr" and low <= -500:
        return f"wrong modality: values down to {low:.0f} are HU, the bundle is for MR"
    if modality == "cbct" and low > -300:
        return f"wrong modality: no value below {low:.0f}, no air in HU, the bundle is for CBCT"
    return ""
