"""From one image to its synthetic CT: 2.5D slices, flips, an ensemble, and how far its members disagree.

The image and its mask are turned to LPS axes and prepared by the very function that prepares training cases
(`cases.prepare`: spacing, normalisation inside the mask). Every slice with body goes through each view of each network
once; mean and standard deviation over views × networks are kept running (Welford), so memory does not grow with either.
The result is turned and resampled back onto the image's own grid (Boussot et al. 2025, section 3.2: flips and folds
averaged, no post-processing).
"""

import time
from dataclasses import dataclass

import numpy as np
import torch

from synthct.cases.intensity import Normalisation, to_hu
from synthct.cases.store import prepare, reflect
from synthct.core.errors import InputError
from synthct.images.grid import Volume, resample
from synthct.images.orientation import orientation_of, to_lps
from synthct.networks.fused import Fused, fusable
from synthct.networks.unetpp import STRIDE, padded

VIEWS = {"none": (), "x": (-1,), "y": (-2,), "xy": (-2, -1)}  # axes of (batch, channel, y, x) that a view flips
GRAPHS = ("eager", "fused")  # how a network is run

RIM = 4  # pixels around the body that are kept, for resampling at its edge
AT_ONCE = {"cpu": 40_000, "cuda": 2_000_000}  # pixels that keep the device busy; more only take memory


@dataclass(frozen=True)
class Frame:
    """The part of every slice that is predicted: rows [y0, y0 + height), columns [x0, x0 + width) of the plane.

    It may reach beyond the plane, where the input holds the `padding` value. Height and width are multiples of 32.
    """

    y0: int
    x0: int
    height: int
    width: int


@dataclass(frozen=True)
class Prediction:
    """`sct` int16 HU and `uncertainty` float32 HU (standard deviation), both on the image's grid; `summary` plain."""

    sct: Volume
    uncertainty: Volume
    summary: dict


def parse_views(flips: str) -> list[tuple[int, ...]]:
    """The views of the setting `flips` ("none,x,y"): for each, the axes to flip.

    >>> parse_views("none,x")
    [(), (-1,)]
    """
    names = [name.strip() for name in flips.split(",") if name.strip()]
    for name in names:
        if name not in VIEWS:
            raise InputError(f"inference.flips: {name!r}, expected a list of {', '.join(VIEWS)}")
    if not names or len(set(names)) < len(names):
        raise InputError(f"inference.flips: {flips!r}, expected each of its views once")
    return [VIEWS[name] for name in names]


def ready(network: torch.nn.Module, graph: str):
    """`network` as the setting `inference.graph` wants it run; InputError for another word than "eager" or "fused".

    "fused" holds for our own network on a CPU whose torch has oneDNN (`networks.fused`); elsewhere it stays as it is.
    """
    if graph not in GRAPHS:
        raise InputError(f"inference.graph: {graph!r}, expected one of {', '.join(GRAPHS)}")
    return Fused(network) if graph == "fused" and fusable(network) else network


def device_of(network) -> torch.device:
    """Where a network runs, fused or not."""
    return network.device if isinstance(network, Fused) else next(network.parameters()).device


def predict(
    image: Volume,
    mask: Volume,
    networks: list[torch.nn.Module],
    *,
    modality: str,
    rules: dict,
    channels: int,
    views: list[tuple[int, ...]],
    batch: int = 0,
    margin: int = STRIDE,
) -> Prediction:
    """The synthetic CT of `image` inside `mask` (uint8, same grid), and the ensemble's spread.

    `networks` map float32 (batch, channels, y, x) to (batch, 1, y, x) in [-1, 1] and are in evaluation mode on one
    device; `rules` are the `preprocessing` settings they were trained under. `batch` slices go through at once (0: as
    many as keep the device busy, `AT_ONCE`). `margin` pixels around the body are predicted too (see `frame_around`).
    Outside the mask the sCT is the lower end of `ct_range` and the uncertainty 0.
    """
    start = time.monotonic()
    orientation = orientation_of(image.grid)
    own = to_lps(mask)
    work, inside, rule = prepare(to_lps(image), own, modality, rules)
    body = inside.array > 0
    mean, spread = _through(work.array, body, rule, networks, rules["padding"], channels, views, batch, margin)
    low, high = map(float, rules["ct_range"])
    mean, spread = to_hu(mean, (low, high)), spread * np.float32((high - low) / 2)
    mean = resample(Volume(mean, work.grid), own.grid, order=1, outside=low).array
    spread = resample(Volume(spread, work.grid), own.grid, order=1).array
    outside = own.array == 0
    mean[outside] = low
    spread[outside] = 0
    sct = np.clip(np.rint(mean), low, high).astype(np.int16)
    certain = spread[~outside]
    summary = {
        "views": len(views) * len(networks),
        "slices": int(body.any((1, 2)).sum()),
        "voxels_in_mask": int(certain.size),
        "mean_uncertainty_hu": round(float(certain.mean(dtype=np.float64)), 3),
        "p95_uncertainty_hu": round(float(np.percentile(certain, 95)), 3),
        "working_size": list(work.grid.size),
        "working_spacing": list(work.grid.spacing),
        "seconds": round(time.monotonic() - start, 2),
    }
    back = orientation.turn_back
    return Prediction(image.with_array(back(sct)), image.with_array(back(spread)), summary)


def frame_around(body: np.ndarray, margin: int) -> Frame:
    """The frame of a mask (z, y, x): its box in the plane, at least `margin` pixels wider on each side within it.

    It starts and ends at multiples of 32 counted from the plane's first pixel, so that every pixel keeps its place in
    the network's strides and the result is that of the whole plane but for the frame's own border; a plane whose size
    is no such multiple is padded after its end.

    >>> body = np.zeros((1, 200, 200), bool)
    >>> body[:, 70:100, 80:90] = True
    >>> frame_around(body, margin=10)
    Frame(y0=32, x0=64, height=96, width=64)
    """

    def span(axes: tuple[int, int]) -> tuple[int, int]:
        hit = np.asarray(body.any(axes))
        at = np.flatnonzero(hit)
        start = max(0, int(at[0]) - margin) // STRIDE * STRIDE
        return start, padded(min(hit.size, int(at[-1]) + 1 + margin) - start)

    (y0, height), (x0, width) = span((0, 2)), span((0, 1))
    return Frame(y0, x0, height, width)


def framed(
    image: np.ndarray, body: np.ndarray, z: int, frame: Frame, rule: Normalisation, padding: float
) -> np.ndarray:
    """Slice `z` of the raw `image`, normalised inside `body`, in the frame: float32 (height, width)."""
    rows = slice(frame.y0, min(frame.y0 + frame.height, image.shape[1]))
    columns = slice(frame.x0, min(frame.x0 + frame.width, image.shape[2]))
    x = np.full((frame.height, frame.width), padding, np.float32)
    part = rule(image[z, rows, columns], body[z, rows, columns])
    x[: part.shape[0], : part.shape[1]] = part
    return x


def slab(
    image: np.ndarray, body: np.ndarray, zs: list[int], frame: Frame, rule: Normalisation, padding: float, channels: int
) -> torch.Tensor:
    """Network input of slices `zs`: (len(zs), channels, height, width), each between its neighbours, ends reflected."""
    half = channels // 2
    wanted = [[reflect(z + k - half, image.shape[0]) for k in range(channels)] for z in zs]
    planes = {z: framed(image, body, z, frame, rule, padding) for z in sorted({z for row in wanted for z in row})}
    return torch.from_numpy(np.stack([np.stack([planes[z] for z in row]) for row in wanted]))


class Spread:
    """Running mean and standard deviation of equally shaped arrays or tensors (Welford), in the order they come."""

    def __init__(self):
        self.count = 0
        self.mean = self._squares = torch.empty(0)  # until the first one comes

    def add(self, y: torch.Tensor):
        """Take one more."""
        self.count += 1
        if self.count == 1:
            self.mean, self._squares = y.clone(), torch.zeros_like(y)
            return
        delta = y - self.mean
        self.mean += delta / self.count
        self._squares += delta * (y - self.mean)

    @property
    def deviation(self) -> torch.Tensor:
        """The standard deviation, divided by N."""
        return (self._squares / self.count).sqrt()


@dataclass(frozen=True)
class View:
    """The volume as one view sees it: flipped as a whole before it is framed and padded, as the released code does."""

    axes: tuple[int, ...]
    image: np.ndarray
    body: np.ndarray
    frame: Frame

    @staticmethod
    def of(image: np.ndarray, body: np.ndarray, axes: tuple[int, ...], margin: int) -> "View":
        """Flip (without a copy) and frame."""
        image, body = np.flip(image, axes), np.flip(body, axes)
        return View(axes, image, body, frame_around(body, margin))

    def unflipped(self, y: torch.Tensor, box: Frame) -> torch.Tensor:
        """The part of a prediction in the frame (batch, y, x) that covers `box` of the plane, turned back."""
        height, width = self.image.shape[1:]
        y0 = height - box.y0 - box.height if -2 in self.axes else box.y0
        x0 = width - box.x0 - box.width if -1 in self.axes else box.x0
        y0, x0 = y0 - self.frame.y0, x0 - self.frame.x0
        return y[:, y0 : y0 + box.height, x0 : x0 + box.width].flip(self.axes)


@torch.inference_mode()
def _through(image, body, rule, networks, padding, channels, views, batch, margin):
    """Mean and standard deviation for the whole volume, float32 (z, y, x).

    A slice without body holds what the nearest slice with body has; beyond the box in the plane lie -1 and 0.
    """
    device = device_of(networks[0])
    seen = [View.of(image, body, axes, margin) for axes in views]
    box = _box(body, min(margin, RIM))
    batch = batch or max(1, AT_ONCE[device.type] // (seen[0].frame.height * seen[0].frame.width))
    mean, deviation = np.full(image.shape, -1, np.float32), np.zeros(image.shape, np.float32)
    slices = np.flatnonzero(body.any((1, 2))).tolist()
    for first in range(0, len(slices), batch):
        zs = slices[first : first + batch]
        spread = Spread()
        inputs = [slab(view.image, view.body, zs, view.frame, rule, padding, channels) for view in seen]
        inputs = [x.to(device).contiguous(memory_format=torch.channels_last) for x in inputs]
        for network in networks:
            for view, x in zip(seen, inputs, strict=True):
                spread.add(view.unflipped(network(x)[:, 0].float(), box))
        part = (zs, slice(box.y0, box.y0 + box.height), slice(box.x0, box.x0 + box.width))
        mean[part], deviation[part] = spread.mean.cpu().numpy(), spread.deviation.cpu().numpy()
    for z in np.flatnonzero(~body.any((1, 2))).tolist():  # air there would bleed into the mask's ends on a finer grid
        nearest = min(slices, key=lambda predicted: abs(predicted - z))
        mean[z], deviation[z] = mean[nearest], deviation[nearest]
    return mean, deviation


def _box(body: np.ndarray, rim: int) -> Frame:
    """The box of a mask in the plane, `rim` pixels wider on each side within the plane."""
    spans = []
    for hit in (body.any((0, 2)), body.any((0, 1))):
        at = np.flatnonzero(hit)
        start, stop = max(0, int(at[0]) - rim), min(hit.size, int(at[-1]) + 1 + rim)
        spans.append((start, stop - start))
    (y0, height), (x0, width) = spans
    return Frame(y0, x0, height, width)
