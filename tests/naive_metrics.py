"""The challenge's metrics written straight from their definition: whole volumes, FFT convolutions, one class at a time.

An independent second implementation for the tests and the benchmark; slow and large, and nothing else uses it.
"""

import numpy as np
import torch
from scipy import ndimage, signal

WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def image_scores(sct, ct, mask, low=-1024.0, high=3071.0):
    """MAE, PSNR and MS-SSIM of arrays (z, y, x); NaN for an empty mask."""
    mask = (mask > 0).astype(np.float64)
    x, y = (np.where(mask > 0, image.astype(np.float64), -1024.0) for image in (ct, sct))
    with np.errstate(invalid="ignore", divide="ignore"):
        mae = np.sum(np.abs(x - y) * mask) / mask.sum()
        x, y = np.clip(x, low, high), np.clip(y, low, high)
        mse = np.sum((x - y) ** 2 * mask) / mask.sum()
        psnr = 10 * np.log10((high - low) ** 2 / mse)
    x, y = np.where(mask > 0, x, low) - low, np.where(mask > 0, y, low) - low
    return {"mae": float(mae), "psnr": float(psnr), "ms_ssim": float(ms_ssim(x, y, mask, high - low))}


def ms_ssim(x, y, mask, data_range):
    """Images already shifted to 0…Q with 0 outside the mask."""
    pads = [((97 - n) // 2, 97 - n - (97 - n) // 2) if n < 97 else (0, 0) for n in x.shape]
    x, y, mask = (np.pad(array, pads, mode="edge") for array in (x, y, mask))
    kernel = np.ones((2, 2, 2)) / 8
    result = 1.0
    for scale, weight in enumerate(WEIGHTS):
        if scale:
            x, y = (signal.fftconvolve(image, kernel, mode="same")[::2, ::2, ::2] for image in (x, y))
            mask = mask[::2, ::2, ::2]
        ssim = ssim_map(x, y, data_range, weight)[3:-3, 3:-3, 3:-3]
        inside = mask[3:-3, 3:-3, 3:-3] > 0
        value = ssim[inside].mean() if inside.any() else np.nan
        result = result * np.clip(value, 0, 1)
    return result


def ssim_map(x, y, data_range, weight):
    """Luminance, contrast and structure, each clipped at 0 and raised to `weight`."""

    def mean(image):
        return ndimage.uniform_filter(image, 7)

    unbiased = 343 / 342
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    ux, uy = mean(x), mean(y)
    vx = unbiased * (mean(x * x) - ux * ux)
    vy = unbiased * (mean(y * y) - uy * uy)
    cov = unbiased * (mean(x * y) - ux * uy)
    sx, sy = np.sqrt(np.maximum(vx, 0)), np.sqrt(np.maximum(vy, 0))
    luminance = (2 * ux * uy + c1) / (ux * ux + uy * uy + c1)
    contrast = (2 * sx * sy + c2) / (vx + vy + c2)
    structure = (cov + c2 / 2) / (sx * sy + c2 / 2)
    result = 1.0
    for part in (luminance, contrast, structure):
        result = result * np.maximum(part, 0) ** weight
    return result


def segmentation_scores(sct, ct, spacing, classes):
    """Dice and HD95 (mm) of label maps (z, y, x), whole volume by class; the quantile is torch's."""
    dices, distances = [], []
    for label in classes:
        a, b = sct == label, ct == label
        if not b.any():
            continue
        dices.append(np.float32(2 * (a & b).sum()) / np.float32(a.sum() + b.sum()))
        if not a.any():
            continue
        edges = [np.pad(one, 1) for one in (a, b)]
        edges = [one & ~ndimage.binary_erosion(one) for one in edges]
        directed = []
        for here, there in (edges, edges[::-1]):
            away = ndimage.distance_transform_edt(~there, sampling=spacing)[here].astype(np.float32)
            directed.append(float(torch.quantile(torch.from_numpy(away), 0.95)))
        distances.append(max(directed))
    return {"dice": float(np.mean(dices)) if dices else 0.0, "hd95": float(np.mean(distances)) if distances else 0.0}
