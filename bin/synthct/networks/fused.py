"""The U-Net++ as prediction runs it: BatchNorm folded into the convolutions, and nothing computed that need not be.

`folded` gives an ordinary network whose convolutions carry the normalisation's scale and shift. `Fused` runs such a
network through oneDNN on a CPU, cuDNN on a GPU, with three more savings, none of which changes what is computed but for
rounding (at most 1 HU from the eager network on every voxel: tests/networks/test_fused.py, for a CPU):

- ReLU and the shortcut's sum happen as a convolution writes its result; oneDNN's weights are laid out once, not anew in
  each pass;
- a 3×3 convolution of a map enlarged twofold (nearest) is a transposed 4×4 convolution of the small map with stride 2:
  16 multiplications for each of its pixels instead of 36;
- maps that are joined are not copied into one: a convolution of joined maps is the sum of the maps' convolutions.

The operators are those that torch's own compiler emits; no compiler is needed to call them.
"""

import copy
from typing import TypeGuard, cast

import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from synthct.networks.unetpp import Block, Residual, UnetPlusPlus


def folded(network: UnetPlusPlus) -> UnetPlusPlus:
    """A copy of `network` (evaluation mode) without BatchNorm: its scale and shift are in weights and biases."""
    network = copy.deepcopy(network).eval()
    _fold(network.encoder, "conv1", "bn1")
    for module in network.modules():
        if isinstance(module, Residual):
            _fold(module, "conv1", "bn1")
            _fold(module, "conv2", "bn2")
            if module.downsample is not None:
                _fold(module.downsample, "0", "1")
        elif isinstance(module, Block):
            _fold(module.conv1, "0", "1")
            _fold(module.conv2, "0", "1")
    return network.requires_grad_(False)


def _fold(module: nn.Module, convolution: str, norm: str):
    """In `module`, put the layer `norm` into the layer `convolution`."""
    setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), getattr(module, norm)))
    setattr(module, norm, nn.Identity())


def fusable(network: nn.Module, dtype: torch.dtype = torch.float32) -> TypeGuard[UnetPlusPlus]:
    """Whether `Fused` can run this network where it lies: ours, and a torch that has its operators there.

    On a CPU that is float32 alone; on a GPU bfloat16 too.
    """
    if not isinstance(network, UnetPlusPlus):
        return False
    if next(network.parameters()).device.type == "cuda":
        return torch.backends.cudnn.is_available()
    names = ("_convolution_pointwise", "_convolution_transpose_pointwise", "_reorder_convolution_weight")
    return (
        dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and all(hasattr(torch.ops.mkldnn, name) for name in names)
    )


class OneDnn:
    """One convolution on a CPU, its weights in oneDNN's layout, which follows the size of the maps that come in."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int = 1, padding: int = 1):
        self.places = ([padding] * 2, [stride] * 2, [1, 1], 1)
        self.plain, self.bias = weight.contiguous(), bias
        self.laid, self.plane = self.plain, torch.Size()  # the weights as maps of the size `plane` want them

    def _weight(self, x: torch.Tensor) -> torch.Tensor:
        if self.plane != x.shape[2:]:
            self.plane = x.shape[2:]
            self.laid = torch.ops.mkldnn._reorder_convolution_weight(self.plain, *self.places, list(x.shape))
        return self.laid

    def __call__(self, x: torch.Tensor, relu: bool = True) -> torch.Tensor:
        """The convolution of `x`, and its ReLU."""
        after = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_pointwise(x, self._weight(x), self.bias, *self.places, after, [], "")

    def onto(self, y: torch.Tensor, x: torch.Tensor, relu: bool) -> torch.Tensor:
        """The same added to `y`, perhaps in its place."""
        add = torch.ops.mkldnn._convolution_pointwise_.binary
        return add(y, x, self._weight(x), self.bias, *self.places, "add", 1.0, "relu" if relu else None, [], "")


class OneDnnEnlarged:
    """A 3×3 convolution of a map enlarged twofold, from the small map: a transposed convolution (`enlarging`)."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.plain, self.bias = enlarging(weight).contiguous(), bias
        self.laid, self.plane = self.plain, torch.Size()

    def __call__(self, x: torch.Tensor, relu: bool) -> torch.Tensor:
        places = ([1, 1], [0, 0], [2, 2], [1, 1], 1)
        if self.plane != x.shape[2:]:
            self.plane = x.shape[2:]
            self.laid = torch.ops.mkldnn._reorder_convolution_transpose_weight(self.plain, *places, list(x.shape))
        after = "relu" if relu else "none"
        return torch.ops.mkldnn._convolution_transpose_pointwise(x, self.laid, self.bias, *places, after, [], "")


class CuDnn:
    """One convolution on a GPU, its weights in the layout that tensor cores want."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None, stride: int = 1, padding: int = 1):
        self.weight = weight.contiguous(memory_format=torch.channels_last)
        self.bias = weight.new_zeros(len(weight)) if bias is None else bias
        self.places = ([stride] * 2, [padding] * 2, [1, 1])

    def __call__(self, x: torch.Tensor, relu: bool = True) -> torch.Tensor:
        """The convolution of `x`, and its ReLU."""
        if relu:
            return torch.cudnn_convolution_relu(x, self.weight, self.bias, *self.places, 1)
        return functional.conv2d(x, self.weight, self.bias, *self.places)

    def onto(self, y: torch.Tensor, x: torch.Tensor, relu: bool) -> torch.Tensor:
        """The same added to `y`, perhaps in its place."""
        if relu:
            return torch.cudnn_convolution_add_relu(x, self.weight, y, 1.0, self.bias, *self.places, 1)
        return y.add_(functional.conv2d(x, self.weight, self.bias, *self.places))


class CuDnnEnlarged:
    """`OneDnnEnlarged` on a GPU."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None):
        self.weight, self.bias = enlarging(weight).contiguous(memory_format=torch.channels_last), bias

    def __call__(self, x: torch.Tensor, relu: bool) -> torch.Tensor:
        y = functional.conv_transpose2d(x, self.weight, self.bias, 2, 1)
        return y.relu_() if relu else y


OPERATORS = {"cpu": (OneDnn, OneDnnEnlarged), "cuda": (CuDnn, CuDnnEnlarged)}


class Fused:
    """A `UnetPlusPlus` for prediction: same input, same output within rounding, the same bits every time.

    Its maps are of `dtype`; the last convolution and tanh are float32. `device` is where the network lay.
    """

    def __init__(self, network: UnetPlusPlus, dtype: torch.dtype = torch.float32):
        self.device, self.dtype = next(network.parameters()).device, dtype
        network = folded(network).to(dtype)
        one, enlarged = OPERATORS[self.device.type]

        def convolution(layer: nn.Module):
            layer = cast(nn.Conv2d, layer)
            return one(layer.weight, layer.bias, layer.stride[0], int(layer.padding[0]))

        encoder, decoder = network.encoder, network.decoder
        self.depth = decoder.depth
        self.stem = convolution(encoder.conv1)
        self.stages = [[_Residual(block, convolution) for block in getattr(encoder, name)] for name in encoder.stages]
        self.nodes = {
            name: _Node(cast(Block, block), decoder.widths[name], one, enlarged)
            for name, block in decoder.blocks.items()
        }
        self.head = convolution(network.segmentation_head[0].float())

    @torch.inference_mode()
    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x.to(self.dtype, memory_format=torch.channels_last))
        features = [x]
        x = functional.max_pool2d(x, 3, 2, 1)
        for stage in self.stages:
            for block in stage:
                x = block(x)
            features.append(x)
        features = features[::-1]
        row: list[torch.Tensor] = []  # as in `unetpp.Decoder.forward`
        for size in range(self.depth):
            skip = features[size + 1]
            nodes = [self.nodes[f"x_{size}_{size}"](features[size], [skip])]
            for start in range(size - 1, -1, -1):
                nodes.insert(0, self.nodes[f"x_{start}_{size}"](row[start], [*nodes, skip]))
            row = nodes
        return self.head(self.nodes[f"x_0_{self.depth}"](row[0], []).float(), relu=False).tanh_()


class _Residual:
    """`unetpp.Residual`, its BatchNorm folded."""

    def __init__(self, block: Residual, convolution):
        self.first, self.second = convolution(block.conv1), convolution(block.conv2)
        self.shortcut = None if block.downsample is None else convolution(block.downsample[0])

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = self.first(x)
        # the stage's own input is a feature map that others read, so it is not written over
        other = x.clone(memory_format=torch.channels_last) if self.shortcut is None else self.shortcut(x, relu=False)
        return self.second.onto(other, y, relu=True)


class _Node:
    """`unetpp.Block`, its BatchNorm folded, the enlarged and the joined maps each with weights of their own."""

    def __init__(self, block: Block, joined: tuple[int, ...], one, enlarged):
        first, second = cast(nn.Conv2d, block.conv1[0]), cast(nn.Conv2d, block.conv2[0])
        parts = first.weight.split([first.in_channels - sum(joined), *joined], 1)
        self.up = enlarged(parts[0], first.bias)
        self.parts = [one(part, None) for part in parts[1:]]
        self.second = one(second.weight, second.bias)

    def __call__(self, x: torch.Tensor, joined: list[torch.Tensor]) -> torch.Tensor:
        y = self.up(x, relu=not joined)
        for number, (part, other) in enumerate(zip(self.parts, joined, strict=True), 1):
            y = part.onto(y, other, relu=number == len(joined))
        return self.second(y)


def enlarging(weight: torch.Tensor) -> torch.Tensor:
    """Weights (in, out, 4, 4) of the transposed convolution with stride 2 and padding 1 that equals a 3×3 convolution
    with `weight` (out, in, 3, 3) and padding 1 of the map enlarged twofold by repeating its pixels."""
    out, before = weight.shape[:2]
    kernel = weight.transpose(0, 1).reshape(-1, 1, 3, 3).flip(2, 3)
    return functional.conv_transpose2d(kernel, kernel.new_ones(1, 1, 2, 2)).reshape(before, out, 4, 4)
