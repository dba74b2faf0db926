"""Validation on whole slices, and which checkpoint it makes the best: by masked MAE in HU, or by image similarity."""

import math

import numpy as np
import torch

from synthct.cases.intensity import to_hu
from synthct.cases.store import Case
from synthct.evaluation.metrics.image import ms_ssim, psnr
from synthct.evaluation.similarity import METRICS, similarity
from synthct.networks.unetpp import padded


def validate(model, cases: list[Case], settings: dict, cast, device, stop=lambda: False) -> dict[str, dict] | None:
    """Scores by patient (None when `stop` said so on the way): "mae", the mean absolute error in HU inside the mask,
    and where ``select`` is "similarity" also "psnr" (dB) and "ms_ssim" as the leaderboard defines them.

    Every body slice is predicted whole, or `validation_slices` of them evenly spaced when that is above 0. `cast` is a
    context for mixed precision. The model is left in training mode.
    """
    model.eval()
    scores = {}
    with torch.inference_mode():
        for case in cases:
            low, high = case.preprocessing["ct_range"]
            total = torch.zeros((), dtype=torch.float64, device=device)
            voxels, volume = 0, []
            for x, y, inside in slices(case, chosen(case, settings["validation_slices"]), settings):
                if stop():
                    model.train()
                    return None
                with cast():
                    prediction = model(_to(x, device, settings)).float()
                error = (prediction - y.to(device)).abs() * inside.to(device)
                total += error.sum(dtype=torch.float64)
                voxels += int(inside.sum())
                if settings["select"] == "similarity":
                    volume.append([part[:, 0].cpu().numpy() for part in (prediction, y, inside)])
            scores[case.patient] = {"mae": float(total) / voxels * (high - low) / 2}
            if volume:
                sct, ct, mask = (np.concatenate(parts) for parts in zip(*volume, strict=True))
                images = (to_hu(sct, (low, high)), to_hu(ct, (low, high)), mask)
                scores[case.patient] |= {"psnr": psnr(*images), "ms_ssim": ms_ssim(*images)}
    model.train()
    return scores


def better(found: dict[str, float], best: dict[str, float], rule: str) -> bool:
    """Whether a checkpoint with the validation scores `found` takes the place of the one with `best` ({}: of none).

    By "mae" the lower error does. By "similarity" the higher aggregate of MAE, PSNR and MS-SSIM, each scaled to the
    range of the two, as `synthct.study.rows.selection` does with any number: of two it is the one that is ahead in more
    of the three. Of a score that is not finite for both nothing is said.
    """
    if not math.isfinite(found["mae"]):
        return False  # a rate too high for BatchNorm's running statistics; they may catch up
    if not best or not math.isfinite(best["mae"]):
        return True
    if rule == "mae":
        return found["mae"] < best["mae"]
    known = [key for key in METRICS if math.isfinite(found[key]) and math.isfinite(best[key])]
    new, old = similarity([found, best], known)
    return bool(new > old)


def chosen(case: Case, count: int) -> list[int]:
    """`count` body slices of a case, evenly spaced; all of them for 0."""
    body = case.body_slices
    if not count or count >= len(body):
        return list(body)
    return [body[int((i + 0.5) * len(body) / count)] for i in range(count)]


def slices(case: Case, numbers: list[int], settings: dict):
    """Whole slices (the body's box, padded to what the network takes) in batches: (x, y, inside) as in training."""
    size = (padded(case.shape[1]), padded(case.shape[2]))
    for start in range(0, len(numbers), settings["validation_batch"]):
        part = [
            case.patch(z, *case.corner, size, settings["channels"])
            for z in numbers[start : start + settings["validation_batch"]]
        ]
        yield tuple(torch.from_numpy(np.stack(arrays)) for arrays in zip(*part, strict=True))


def picture(model, cases: list[Case], settings: dict, cast, device) -> np.ndarray:
    """Middle slices of up to three patients as grey values, uint8 (rows, columns): input, sCT, CT, error; a row each.

    Input: ±3 standard deviations (MR) or its range; CT and sCT -400 to 400 HU; error 0 to 400 HU.
    """
    rows = []
    model.eval()
    with torch.inference_mode():
        for case in cases[:3]:
            ((x, y, inside),) = slices(case, chosen(case, 1), settings)
            with cast():
                prediction = model(_to(x, device, settings)).float().cpu()
            low, high = case.preprocessing["ct_range"]
            hu = [torch.where(inside, (v + 1) / 2 * (high - low) + low, low)[0, 0] for v in (prediction, y)]
            middle = x[0, x.shape[1] // 2] / (6 if case.modality == "mr" else 2) + 0.5
            panels = [middle, (hu[0] + 400) / 800, (hu[1] + 400) / 800, (hu[0] - hu[1]).abs() / 400]
            rows.append(torch.cat([panel.clamp(0, 1) for panel in panels], 1).mul(255).byte().numpy())
    model.train()
    width = max(row.shape[1] for row in rows)
    return np.concatenate([np.pad(row, ((0, 0), (0, width - row.shape[1]))) for row in rows])


def _to(x: torch.Tensor, device, settings: dict) -> torch.Tensor:
    layout = torch.channels_last if settings["channels_last"] else torch.contiguous_format
    return x.to(device, memory_format=layout)
