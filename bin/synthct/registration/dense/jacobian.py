"""IMPACT's Jacobian mode on whole levels: the warped image through the network, and the gradient back through it.

At each iteration the moving image, warped to the level's points, goes through the network; its maps are compared with
those of the fixed image, made once a level; the gradient flows back to the warped image, and from there by the slope of
the moving image to the displacement. IMPACT does this at 2,000 random points, in a patch each (spec of
vboussot/ImpactElastix @d9cf16e); here every voxel of the mask counts, and neighbours share what a patch costs.

Both ways are gone slab by slab, so that memory is bounded by a slab's. A slab reaches beyond what is kept of it by as
much as the network sees: its maps and its gradient are those of the whole image.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from synthct.registration.dense.similarity import Distance
from synthct.registration.dense.warp import sample

OVERLAPS = (2, 4, 6, 8, 12, 16, 24, 32)  # voxels, tried from the least on
ALIKE = 1e-5  # of a map's largest value: what float32 leaves between two ways to the same features

_aten = torch.ops.aten
_NORMS = (_aten.native_batch_norm.default, _aten.cudnn_batch_norm.default)  # what an instance norm comes down to
_SLOPES = (_aten.native_batch_norm_backward.default, _aten.cudnn_batch_norm_backward.default)


class Held(TorchDispatchMode):
    """A network whose instance norms keep the mean and the variance that one image gave; no gradient goes through them.

    Else a part of an image would be normalised by itself, and give other features than the whole. What the un-warped
    image gave is held: a deformation moves its voxels and hardly changes what they hold. The norms are met where torch
    runs them, so that TorchScript will do. Gradients of `maps` are taken within ``with held:``.
    """

    def __init__(self, extract: nn.Module, statistics: torch.Tensor, direction: torch.Tensor):
        super().__init__()
        self._extract, self._about = extract, (statistics, direction)
        self._norms: list[tuple[torch.Tensor, torch.Tensor]] = []  # variance and mean of each, in the order they run
        self._next = 0

    def learn(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The maps (c, z, y, x) of a whole image (z, y, x), whose statistics are held from then on."""
        self._norms = []
        with torch.no_grad(), self:
            return self.maps(image)

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The kept layers' maps (c, z, y, x) of an image (z, y, x) or of a part of it."""
        self._next = 0
        return [layer[0] for layer in self._extract(image[None, None], *self._about)]

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function in _NORMS and args[5]:  # by the image's own statistics
            x, weight, bias, *_, epsilon = args
            return self._normed(x, weight, bias, epsilon, function is _NORMS[1])
        if function is _SLOPES[0] and args[7]:
            gradient, x, weight, _, _, mean, inverse, _, epsilon, wanted = args
            return _slope(gradient, x, weight, mean, inverse, epsilon, wanted)
        if function is _SLOPES[1]:
            x, gradient, weight, _, _, mean, inverse, epsilon, _ = args
            return _slope(gradient, x, weight, mean, inverse, epsilon, [True, False, False])
        return function(*args, **(kwargs or {}))

    def _normed(self, x, weight, bias, epsilon: float, cudnn: bool):
        if self._next == len(self._norms):
            self._norms.append(torch.var_mean(x, [0, *range(2, x.dim())], correction=0))
        variance, mean = self._norms[self._next]
        self._next += 1
        result = _aten.native_batch_norm.default(x, weight, bias, mean, variance, False, 0.0, epsilon)[0]
        told = (result, mean, (variance + epsilon).rsqrt())  # the last two are what the slope is told
        return (*told, x.new_empty(0, dtype=torch.uint8)) if cudnn else told


def _slope(gradient, x, weight, mean, inverse, epsilon: float, wanted: list[bool]):
    """The gradient through a norm with constant statistics; `inverse` is 1 / sqrt(variance + epsilon)."""
    variance = inverse**-2 - epsilon
    return _SLOPES[0](gradient, x, weight, mean, variance, mean, inverse, False, epsilon, wanted)


@dataclass(frozen=True)
class Reach:
    """How far a network sees: `overlap`, the voxels by which parts of an image have to overlap (None: it sees the whole
    image, which then stays whole), and the strides (z, y, x) of its kept layers."""

    overlap: int | None
    strides: list[tuple[int, ...]]

    @property
    def step(self) -> int:
        """Voxels between two places where parts may begin."""
        return math.lcm(*(s for layer in self.strides for s in layer))

    @classmethod
    def of(cls, extract: nn.Module, side, axis: int) -> "Reach":
        """Measured: the least overlap along `axis` with which a part of a column of noise gives the column's features.

        The noise has the mean and the sigma of `side`, but is quieter in that part: features that depend on a mean over
        the image, such as MIND's, are found out.
        """
        statistics = side.statistics()
        shape, first, past = [32, 32, 32], 64, 96
        shape[axis] = 160
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(1)).to(side.array)
        noise.narrow(axis, first, past - first).mul_(0.03)
        noise = statistics[2] + statistics[3] * noise
        network = Held(extract, statistics, side.direction())
        whole = network.learn(noise)
        reach = cls(None, [tuple(round(n / m) for n, m in zip(shape, w.shape[1:], strict=True)) for w in whole])
        for overlap in (k for k in OVERLAPS if k % reach.step == 0):
            with torch.no_grad(), network:
                part = network.maps(noise.narrow(axis, first - overlap, past - first + 2 * overlap))
            if all(
                _alike(p.narrow(axis + 1, overlap // s[axis], n), w.narrow(axis + 1, first // s[axis], n))
                for p, w, s in zip(part, whole, reach.strides, strict=True)
                for n in [(past - first) // s[axis]]
            ):
                return cls(overlap, reach.strides)
        return reach


def _alike(part: torch.Tensor, whole: torch.Tensor) -> bool:
    return bool((part - whole).abs().max() <= ALIKE * whole.abs().max())


@dataclass(frozen=True)
class Slab:
    """A part of a level: `outer` (slices along z, y, x) goes through the network, and what lies in `inner` along `axis`
    (voxels from the start of `outer`) is kept."""

    outer: tuple[slice, ...]
    inner: slice
    axis: int

    def kept(self, array: torch.Tensor, stride: tuple[int, ...]) -> torch.Tensor:
        """What is kept of an array (..., z, y, x) with a place every `stride` voxels of `outer`."""
        step = stride[self.axis]
        places = slice(self.inner.start // step, -(-self.inner.stop // step))
        z, y, x = (places if axis == self.axis else slice(None) for axis in range(3))
        return array[..., z, y, x]


def slabs(box: list[slice], shape: tuple[int, ...], axis: int, reach: Reach, voxels: int) -> list[Slab]:
    """The slabs along `axis` that together keep the `box` (slices along z, y, x) of a level of `shape`.

    Each has about `voxels` voxels at most, overlaps included (0: one slab), and begins where the whole image's features
    lie.
    """
    if reach.overlap is None:
        return [Slab(tuple(slice(0, n) for n in shape), slice(0, shape[axis]), axis)]
    step, more = reach.step, reach.overlap
    start = [b.start // step * step for b in box]
    outer = [slice(max(0, s - more), min(n, b.stop + more)) for s, b, n in zip(start, box, shape, strict=True)]
    across = math.prod(o.stop - o.start for a, o in enumerate(outer) if a != axis)
    thick = max(step, (voxels // across - 2 * more) // step * step) if voxels else shape[axis] + step
    result = []
    for first in range(start[axis], box[axis].stop, thick):
        past = min(first + thick, box[axis].stop)
        own = slice(max(0, first - more), min(shape[axis], past + more))
        place = tuple(own if a == axis else o for a, o in enumerate(outer))
        result.append(Slab(place, slice(first - own.start, past - own.start), axis))
    return result


class JacobianTerm:
    """IMPACT's distance between the maps of the fixed image and those of the moving image as it is warped.

    They are compared place by place on the level's points, of a layer with a stride at every so many of them, and
    summed over the kept layers. `inside` (z, y, x) are the weights of the level's points, 0 outside the mask.
    """

    def __init__(self, model: dict, voxel_mm: float, sides, extract: nn.Module, inside: torch.Tensor):
        self.weight = model["weight"]
        steps = tuple(max(voxel_mm, spacing) for spacing in sides[0].grid.spacing[::-1])
        fixed, moving = (side.at(steps, 0.0) for side in sides)
        axis = int(np.argmax(fixed.shape))  # the fewest overlaps
        reach = Reach.of(extract, sides[0], axis)
        places = torch.nonzero(inside)
        box = [slice(int(low), int(high) + 1) for low, high in zip(places.amin(0), places.amax(0), strict=True)]
        self._slabs, self._strides = slabs(box, tuple(fixed.shape), axis, reach, model["slab_voxels"]), reach.strides
        self._distances = [Distance(model["distance"]) for _ in reach.strides]
        self._weights, self._standardise = model["layer_weights"], model["standardise"]
        network, scales = self._learnt(extract, sides[0], fixed)
        with torch.no_grad(), network:
            self._fixed = [self._features(network, scales, slab, fixed[slab.outer]) for slab in self._slabs]
        self._image = moving[None]
        self._network, self._scales = self._learnt(extract, sides[1], moving)

    def __call__(self, part, coordinates: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        places, weights = part.everywhere()
        warped = sample(self._image, places)[0].reshape(weights.shape)
        return _BySlabs.apply(warped, weights, self)

    def by_slabs(self, warped: torch.Tensor, weights: torch.Tensor, wanted: bool):
        """The value, a scalar, at a warped image (z, y, x) with the weights of its voxels, and its gradient (z, y, x),
        None unless `wanted`."""
        valid = [self._valid(slab, fixed, weights) for slab, fixed in zip(self._slabs, self._fixed, strict=True)]
        totals = [torch.stack([w.sum() for w in layer]).sum().clamp(min=1.0) for layer in zip(*valid, strict=True)]
        each = [
            part for part in zip(self._slabs, self._fixed, valid, strict=True) if any(bool(w.any()) for w in part[2])
        ]
        if not all(distance.ready for distance in self._distances):  # a first value is that of all slabs together
            with torch.no_grad(), self._network:
                found = [self._shares(*part, warped[part[0].outer], totals) for part in each]
            for distance, shares in zip(self._distances, zip(*found, strict=True), strict=True):
                distance.scaled(torch.stack(shares).sum())
        value, gradient = warped.new_zeros(()), torch.zeros_like(warped) if wanted else None
        for slab, fixed, own in each:
            image = warped[slab.outer].detach().requires_grad_(wanted)
            with torch.set_grad_enabled(wanted), self._network:
                shares = self._shares(slab, fixed, own, image, totals)
                terms = zip(self._weights, self._distances, shares, strict=True)
                share = torch.stack([weight * distance.scaled(part) for weight, distance, part in terms]).sum()
                if gradient is not None:
                    gradient[slab.outer] += torch.autograd.grad(share, image)[0]
            value += share.detach()
        return value, gradient

    def _learnt(self, extract: nn.Module, side, image: torch.Tensor):
        """The network with the statistics of a side's image, and for each kept layer what standardises its channels:
        a factor and a summand (c, 1, 1, 1), None where they stay as they are."""
        network = Held(extract, side.statistics(), side.direction())
        maps = network.learn(image)
        if not self._standardise:
            return network, [None] * len(maps)
        factors = [1 / m.std((1, 2, 3), keepdim=True).clamp(min=1e-6) for m in maps]
        return network, [(f, -f * m.mean((1, 2, 3), keepdim=True)) for f, m in zip(factors, maps, strict=True)]

    def _features(self, network: Held, scales: list, slab: Slab, image: torch.Tensor) -> list[torch.Tensor]:
        """What is kept of each layer's map (c, z, y, x) of a slab's image."""
        kept = [slab.kept(layer, s) for layer, s in zip(network.maps(image), self._strides, strict=True)]
        return [
            layer if scale is None else torch.addcmul(scale[1], layer, scale[0])
            for layer, scale in zip(kept, scales, strict=True)
        ]

    def _valid(self, slab: Slab, fixed: list[torch.Tensor], weights: torch.Tensor) -> list[torch.Tensor]:
        """The weights (N,) of a slab's places, a layer at a time."""
        found = []
        for layer, stride in zip(fixed, self._strides, strict=True):
            placed = slab.kept(weights[slab.outer][tuple(slice(None, None, step) for step in stride)], stride)
            found.append(placed[tuple(slice(0, n) for n in layer.shape[1:])].reshape(-1))
        return found

    def _shares(self, slab: Slab, fixed, valid, image: torch.Tensor, totals) -> list[torch.Tensor]:
        """What a slab's places add to each layer's distance over the level."""
        moving = self._features(self._network, self._scales, slab, image)
        return [
            distance.value(f.flatten(1), m.flatten(1), w) * (w.sum().clamp(min=1.0) / total)
            for distance, f, m, w, total in zip(self._distances, fixed, moving, valid, totals, strict=True)
        ]


class _BySlabs(torch.autograd.Function):
    """`JacobianTerm.by_slabs` with its gradient, which comes with the value: no slab's maps outlive it."""

    @staticmethod
    def forward(ctx, warped, weights, term):
        value, gradient = term.by_slabs(warped, weights, ctx.needs_input_grad[0])
        ctx.save_for_backward(gradient)
        return value

    @staticmethod
    def backward(ctx, gradient):
        (slope,) = ctx.saved_tensors
        return None if slope is None else gradient * slope, None, None
