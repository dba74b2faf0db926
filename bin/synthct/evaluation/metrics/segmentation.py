"""Dice and HD95 of TotalSegmentator label maps, as the SynthRAD2025 leaderboard computes them (MONAI's definitions).

Label maps are integer arrays (z, y, x) of one shape with TotalSegmentator v2 ids (task "total"). The mask plays no
part.
"""

import math

import numpy as np
from scipy import ndimage

_BODY = (2, 3, 5, 6, *range(10, 15), *range(26, 52), 79, *range(92, 117))
_HEAD = (15, 16, 17, *range(26, 51), 79, 90, 91)
CLASSES = {"AB": _BODY, "TH": _BODY, "HN": _HEAD}
PERCENTILE = 95


def classes_of(region: str) -> tuple[int, ...]:
    """The ids scored for a region; a region that the challenge does not have is scored on the union of its lists."""
    return CLASSES.get(region, tuple(sorted({*_BODY, *_HEAD})))


def segmentation_scores(sct_labels: np.ndarray, ct_labels: np.ndarray, spacing, region: str) -> dict:
    """Patient values: unweighted means over the classes of `region` that the CT's map has.

    `spacing` is (z, y, x) in mm. Returns {"dice" (0…1), "hd95" (mm), "n_classes_scored", "n_classes_missing",
    "per_class"}. A class that the sCT's map lacks counts as Dice 0 and is left out of the HD95; with nothing to average
    both are 0.0, as on the leaderboard, which is why the counts stand beside them.
    """
    per_class = class_scores(sct_labels, ct_labels, spacing, classes_of(region))
    distances = [score["hd95"] for score in per_class.values() if score["hd95"] == score["hd95"]]
    return {
        "dice": _mean([score["dice"] for score in per_class.values()]),
        "hd95": _mean(distances),
        "n_classes_scored": len(per_class),
        "n_classes_missing": len(per_class) - len(distances),
        "per_class": per_class,
    }


def class_scores(sct_labels: np.ndarray, ct_labels: np.ndarray, spacing, classes) -> dict[int, dict]:
    """For every class in `classes` that the CT's map has: {"dice", "hd95" (mm, NaN if the sCT lacks it), voxel
    counts}.
    """
    if sct_labels.shape != ct_labels.shape or ct_labels.ndim != 3:
        raise ValueError(f"label maps of shapes {sct_labels.shape} and {ct_labels.shape} differ or are not 3-D")
    sct_boxes, ct_boxes = _boxes(sct_labels, classes), _boxes(ct_labels, classes)
    scores = {}
    for label in sorted(ct_boxes):
        box = _union(ct_boxes[label], sct_boxes.get(label))
        a, b = sct_labels[box] == label, ct_labels[box] == label
        n_sct, n_ct = int(a.sum()), int(b.sum())
        dice = np.float32(2 * int((a & b).sum())) / np.float32(n_sct + n_ct)
        distance = hausdorff(a, b, spacing) if n_sct else math.nan
        scores[label] = {"dice": float(dice), "hd95": distance, "voxels_ct": n_ct, "voxels_sct": n_sct}
    return scores


def hausdorff(a: np.ndarray, b: np.ndarray, spacing, percentile: float = PERCENTILE) -> float:
    """The larger of both directions' `percentile` of edge-to-edge distances, in the unit of `spacing` (z, y, x).

    Edge voxels are those with a 6-neighbour outside the object; beyond the array counts as outside. Both must not be
    empty.
    """
    edges = [mask ^ ndimage.binary_erosion(mask) for mask in (a, b)]
    directions = []
    for here, there in (edges, edges[::-1]):
        distances = ndimage.distance_transform_edt(~there, sampling=spacing)[here]
        directions.append(_quantile(distances.astype(np.float32), percentile / 100))
    return max(directions)


def _quantile(values: np.ndarray, q: float) -> float:
    """torch.quantile's linear interpolation of float32 values, to the last bit: q in float32, one rounding at the
    end.
    """
    values = np.sort(values)
    rank = float(np.float32(q)) * (len(values) - 1)
    below = int(rank)
    low, high = values[below], values[math.ceil(rank)]
    weight, step = np.float32(rank - below), float(high - low)
    if weight < 0.5:
        return float(np.float32(float(low) + float(weight) * step))
    return float(np.float32(float(high) - step * float(np.float32(1) - weight)))


def _boxes(labels: np.ndarray, classes) -> dict[int, tuple[slice, ...]]:
    wanted = np.where(np.isin(labels, classes), labels, 0).astype(np.uint8)
    return {label: box for label, box in enumerate(ndimage.find_objects(wanted), start=1) if box is not None}


def _union(box, other) -> tuple[slice, ...]:
    if other is None:
        return box
    return tuple(slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(box, other, strict=True))


def _mean(values: list[float]) -> float:
    return float(np.mean(np.array(values, np.float32))) if values else 0.0
