"""A trained nnU-Net as its package leaves it on disk: the network with its weights, and the CT's intensities."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core import multiarray
from torch import nn

from synthct.core.errors import InputError
from synthct.core.tables import read_object
from synthct.networks.checkpoint import load_torch


def read_network(place: Path) -> tuple[Any, dict]:
    """The network of a fold directory, and the intensity properties of its one channel (mean, std, percentiles).

    `place` holds ``checkpoint_final.pth``; ``plans.json`` and ``dataset.json`` lie above it. Raises `InputError` where
    these are absent or no JSON, and for a checkpoint that is damaged or holds code.
    """
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(read_object(place.parent / "plans.json", "network"))
    labels = read_object(place.parent / "dataset.json", "network")["labels"]
    configuration = plans.get_configuration(place.parent.name.split("__")[-1])
    network = get_network_from_plans(
        configuration.network_arch_class_name,
        configuration.network_arch_init_kwargs,
        configuration.network_arch_init_kwargs_req_import,
        1,
        len(labels),
        allow_init=False,
        deep_supervision=False,
    )
    numbers: list[Any] = [
        np.dtype,
        np.ndarray,
        multiarray.scalar,
        multiarray._reconstruct,
        *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
    ]
    with torch.serialization.safe_globals(numbers):  # nnU-Net logs numpy numbers beside the weights
        network.load_state_dict(load_torch(place / "checkpoint_final.pth")["network_weights"])
    return network, plans.foreground_intensity_properties_per_channel["0"]


def in_plane(network: nn.Module) -> nn.Module:
    """`network`, a 3-D one, made the 2-D one that says the same of a volume of one slice: its layers are changed in
    place.

    Beyond a single slice lie the zeros that pad it, so of each kernel the middle plane alone has a say. Raises
    `InputError` for a layer of three dimensions of another kind than nnU-Net's encoders have.
    """
    for name, layer in network.named_children():
        if flat := _flat(layer):
            setattr(network, name, flat.train(layer.training))
        elif type(layer).__name__.endswith("3d"):
            raise InputError(f"training.perceptual: the encoder has a layer {type(layer).__name__}, unknown in 2-D")
        else:
            in_plane(layer)
    return network


def _flat(layer: nn.Module) -> nn.Module | None:
    """A layer of three dimensions in two; None for any other."""
    flat: Any = None
    if isinstance(layer, nn.Conv3d):
        places: dict[str, Any] = {
            key: getattr(layer, key)[1:] for key in ("kernel_size", "stride", "padding", "dilation")
        }
        flat = nn.Conv2d(layer.in_channels, layer.out_channels, groups=layer.groups, **places)
        flat.weight = nn.Parameter(layer.weight[:, :, layer.kernel_size[0] // 2].contiguous())
        flat.bias = layer.bias
    elif isinstance(layer, nn.InstanceNorm3d):
        flat = nn.InstanceNorm2d(layer.num_features, layer.eps, affine=layer.affine)
        flat.weight, flat.bias = layer.weight, layer.bias
    elif isinstance(layer, nn.BatchNorm3d):
        flat = nn.BatchNorm2d(layer.num_features, layer.eps, affine=layer.affine)
        flat.load_state_dict(layer.state_dict())
    elif isinstance(layer, nn.AvgPool3d):  # of a residual block, beside its convolution with a stride
        sizes: list[Any] = [
            one if isinstance(one, int) else one[1:] for one in (layer.kernel_size, layer.stride, layer.padding)
        ]
        flat = nn.AvgPool2d(sizes[0], sizes[1], sizes[2])
    elif isinstance(layer, nn.Dropout3d):
        flat = nn.Dropout2d(layer.p)
    return flat
