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
from torch.nn import functional

from synthct.cases.intensity import Normalisation, to_hu
from synthct.cases.store import prepare, reflect
from synthct.core import presets
from synthct.core.errors import InputError
from synthct.core.limits import CHOICES
from synthct.images.grid import Volume, resample
from synthct.images.orientation import orientation_of, to_lps
from synthct.networks.fused import Fused, fusable
from synthct.networks.unetpp import STRIDE, padded

VIEWS = {"none": (), "x": (-1,), "y": (-2,), "xy": (-2, -1)}  # axes of (batch, channel, y, x) that a view flips
GRAPHS = CHOICES["inference.graph"]  # how a network is run
PRECISIONS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}  # what its maps are kept in

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
    """`sct` int16 HU and `uncertainty` float32 HU (standard deviation), both on the image's grid; `summary` plain.

    `members` are the sCTs of each network by itself, in their order, where they were asked for.
    """

    sct: Volume
    uncertainty: Volume
    summary: dict
    members: tuple[Volume, ...] = ()


def parse_views(flips: str) -> list[tuple[int, ...]]:
    """The views of the setting `flips` ("none,x,y"): for each, the axes to flip.

    >>> parse_views("none,x")
    [(), (-1,)]
    """
    return [VIEWS[name] for name in presets.views(flips)]


class HalfPrecision:
    """A network in mixed precision, as training's autocast has it: maps in bfloat16, result float32."""

    def __init__(self, network: torch.nn.Module):
        self.network, self.device = network, next(network.parameters()).device

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            return self.network(x).float()


def ready(network: torch.nn.Module, graph: str, precision: str = "float32"):
    """`network` as the settings `inference.graph` and `inference.precision` want it run.

    The graph "fused" holds for our own network (`networks.fused`): on a CPU in float32 alone, on a GPU in all but
    float32, where it saves nothing; elsewhere the network stays as it is. "tf32" rests on what `core.device.repeatable`
    was told. Raises `InputError` for a word that is not known.
    """
    for key, value in (("inference.graph", graph), ("inference.precision", precision)):
        if value not in CHOICES[key]:
            raise InputError(f"{key}: {value!r}, expected one of {', '.join(CHOICES[key])}")
    dtype = PRECISIONS[precision]
    saves = device_of(network).type == "cpu" or precision != "float32"
    if graph == "fused" and saves and fusable(network, dtype):
        return Fused(network, dtype)
    return network if dtype == torch.float32 else HalfPrecision(network)


def device_of(network) -> torch.device:
    """Where a network runs, made `ready` or not."""
    return network.device if isinstance(network, Fused | HalfPrecision) else next(network.parameters()).device


def layout_of(network) -> torch.memory_format:
    """The memory layout in which a network's maps are fastest: channels last, but for float32 on a GPU.

    There cuDNN takes 2.3 times as long that way (H100: benchmarks/RESULTS.md).
    """
    plain = not isinstance(network, Fused | HalfPrecision) and not torch.backends.cudnn.allow_tf32
    return torch.contiguous_format if plain and device_of(network).type == "cuda" else torch.channels_last


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
    apart: bool = False,
) -> Prediction:
    """The synthetic CT of `image` inside `mask` (uint8, same grid), and the ensemble's spread.

    `networks` map float32 (batch, channels, y, x) to (batch, 1, y, x) in [-1, 1] and are in evaluation mode on one
    device; `rules` are the `preprocessing` settings they were trained under. `batch` slices go through at once (0: as
    many as keep the device busy, `AT_ONCE`). `margin` pixels around the body are predicted too (see `frame_around`).
    Outside the mask the sCT is the lower end of `ct_range` and the uncertainty 0. With `apart` each network's own sCT,
    the mean over its views, is kept as well, which takes the memory of one float32 volume a network. Raises
    `InputError` where the networks give values that are not finite.
    """
    start = time.monotonic()
    orientation = orientation_of(image.grid)
    own = to_lps(mask)
    work, inside, rule = prepare(to_lps(image), own, modality, rules)
    body = inside.array > 0
    given = (work.array, body, rule, networks, rules["padding"], channels, views, batch, margin)
    mean, spread, each = _through(*given, apart)
    low, high = map(float, rules["ct_range"])
    outside = own.array == 0

    def rounded(field: np.ndarray) -> np.ndarray:
        hu = resample(Volume(to_hu(field, (low, high)), work.grid), own.grid, order=1, outside=low).array
        hu[outside] = low
        if not np.isfinite(hu).all():  # as an int16 it would be some HU or other
            raise InputError("the networks give values that are not finite for this image; are their weights damaged?")
        return np.clip(np.rint(hu), low, high).astype(np.int16)

    sct = rounded(mean)
    spread = resample(Volume(spread * np.float32((high - low) / 2), work.grid), own.grid, order=1).array
    spread[outside] = 0
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
    members = tuple(image.with_array(back(rounded(field))) for field in each)
    return Prediction(image.with_array(back(sct)), image.with_array(back(spread)), summary, members)


def predict_by(
    about: dict, settings: dict, networks: list, image: Volume, mask: Volume, region: str | None, *, apart: bool = False
) -> Prediction:
    """`predict` as a bundle has it: `about` is its bundle.json, `settings` a section ``inference`` (its own, or another
    in its place), `networks` its own for `region` (none: the bundle's default)."""
    return predict(
        image,
        mask,
        networks,
        modality=about["modality"],
        rules=presets.for_region(about["preprocessing"], region or about["default_region"]),
        channels=about["channels"],
        views=parse_views(settings["flips"]),
        batch=settings["batch"],
        margin=settings["margin"],
        apart=apart,
    )


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
    """One way of seeing the plane: flipped as a whole before it is framed and padded, as the released code does.

    `frame` lies in the flipped plane, whose height and width are `plane`.
    """

    axes: tuple[int, ...]
    plane: tuple[int, int]
    frame: Frame

    @staticmethod
    def of(body: np.ndarray, axes: tuple[int, ...], margin: int) -> "View":
        """Of a mask (z, y, x), flipped without a copy."""
        return View(axes, (body.shape[1], body.shape[2]), frame_around(np.flip(body, axes), margin))

    def seen(self, planes: torch.Tensor, padding: float) -> torch.Tensor:
        """What of whole planes (n, y, x) lies in the frame: (n, height, width), `padding` beyond the plane."""
        frame, (height, width) = self.frame, self.plane
        part = planes.flip(self.axes)[:, frame.y0 : frame.y0 + frame.height, frame.x0 : frame.x0 + frame.width]
        below, right = max(0, frame.y0 + frame.height - height), max(0, frame.x0 + frame.width - width)
        return functional.pad(part, (0, right, 0, below), value=padding)

    def unflipped(self, y: torch.Tensor, box: Frame) -> torch.Tensor:
        """The part of a prediction in the frame (batch, y, x) that covers `box` of the plane, turned back."""
        height, width = self.plane
        y0 = height - box.y0 - box.height if -2 in self.axes else box.y0
        x0 = width - box.x0 - box.width if -1 in self.axes else box.x0
        y0, x0 = y0 - self.frame.y0, x0 - self.frame.x0
        return y[:, y0 : y0 + box.height, x0 : x0 + box.width].flip(self.axes)


@dataclass(frozen=True)
class Slices:
    """Network input of some slices, each between its neighbours, ends reflected: each plane is normalised and brought
    to the device once, whatever the number of views and neighbours."""

    planes: torch.Tensor  # (n, y, x), float32
    rows: torch.Tensor  # (slices, channels): which planes

    @staticmethod
    def of(image, body, zs: list[int], rule: Normalisation, channels: int, device: torch.device) -> "Slices":
        """Slices `zs` of the raw `image` (z, y, x), normalised inside `body`."""
        half = channels // 2
        wanted = [[reflect(z + k - half, image.shape[0]) for k in range(channels)] for z in zs]
        needed = sorted({z for row in wanted for z in row})
        planes = torch.from_numpy(rule(image[needed], body[needed])).to(device)
        return Slices(planes, torch.tensor([[needed.index(z) for z in row] for row in wanted], device=device))

    def seen(self, view: View, padding: float, layout: torch.memory_format) -> torch.Tensor:
        """(slices, channels, height, width) in the frame of `view`."""
        return view.seen(self.planes, padding)[self.rows].contiguous(memory_format=layout)


@torch.inference_mode()
def _through(image, body, rule, networks, padding, channels, views, batch, margin, apart):
    """Mean and standard deviation for the whole volume, float32 (z, y, x), and with `apart` each network's own mean.

    A slice without body holds what the nearest slice with body has; beyond the box in the plane lie -1 and 0.
    """
    device, layout = device_of(networks[0]), layout_of(networks[0])
    seen = [View.of(body, axes, margin) for axes in views]
    box = _box(body, min(margin, RIM))
    batch = batch or max(1, AT_ONCE[device.type] // (seen[0].frame.height * seen[0].frame.width))
    mean, deviation = np.full(image.shape, -1, np.float32), np.zeros(image.shape, np.float32)
    each = [mean.copy() for _ in networks if apart]
    inside = (slice(box.y0, box.y0 + box.height), slice(box.x0, box.x0 + box.width))

    def keep(zs: list[int], spread: Spread, own: list[Spread]):
        mean[(zs, *inside)] = spread.mean.cpu().numpy()
        deviation[(zs, *inside)] = spread.deviation.cpu().numpy()
        for field, alone in zip(each, own, strict=True):
            field[(zs, *inside)] = alone.mean.cpu().numpy()

    slices = np.flatnonzero(body.any((1, 2))).tolist()
    before = None
    for first in range(0, len(slices), batch):
        zs = slices[first : first + batch]
        spread, given = Spread(), Slices.of(image, body, zs, rule, channels, device)
        inputs = [given.seen(view, padding, layout) for view in seen]
        own = [Spread() for _ in each]
        for number, network in enumerate(networks):
            for view, x in zip(seen, inputs, strict=True):
                y = view.unflipped(network(x)[:, 0].float(), box)
                for taker in (spread, *own[number : number + 1]):
                    taker.add(y)
        if before:
            keep(*before)  # which waits for a GPU: it has the next slices to go on with by then
        before = (zs, spread, own)
    if before:
        keep(*before)
    for z in np.flatnonzero(~body.any((1, 2))).tolist():  # air there would bleed into the mask's ends on a finer grid
        nearest = min(slices, key=lambda predicted: abs(predicted - z))
        for field in (mean, deviation, *each):
            field[z] = field[nearest]
    return mean, deviation, each


def _box(body: np.ndarray, rim: int) -> Frame:
    """The box of a mask in the plane, `rim` pixels wider on each side within the plane."""
    spans = []
    for hit in (body.any((0, 2)), body.any((0, 1))):
        at = np.flatnonzero(hit)
        start, stop = max(0, int(at[0]) - rim), min(hit.size, int(at[-1]) + 1 + rim)
        spans.append((start, stop - start))
    (y0, height), (x0, width) = spans
    return Frame(y0, x0, height, width)
