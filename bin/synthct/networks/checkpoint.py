"""Weights on disk: safetensors of ours, the authors' published checkpoints, and states to continue from.

Nothing here runs code that a file brings along: safetensors hold numbers only, and .pt files are read with
``weights_only=True``.
"""

import json
import pickle
import warnings
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from synthct.core.errors import InputError
from synthct.core.files import atomic, plain

PUBLISHED = ("UNetpp5", "UNetpp")  # the network's name in the authors' Task 1 and Task 2 checkpoints


def save_weights(path, weights: dict[str, torch.Tensor], about: dict):
    """Write `weights` (segmentation-models-pytorch keys) as safetensors, with `about` as JSON in its metadata."""
    weights = {key: value.detach().cpu().contiguous() for key, value in weights.items()}
    with atomic(path) as temporary:
        save_file(weights, str(temporary), {"synthct": json.dumps(plain(about))})


def load_weights(path) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights under segmentation-models-pytorch keys, and what is known about them ({} for a foreign file).

    Reads safetensors, and torch files of either a bare state dict or the authors' published layout
    (``["Model"]["UNetpp5" | "UNetpp"]["model." + key]``). Raises `InputError` for anything else, and for a pickle that
    holds more than numbers.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"checkpoint {path}: no such file")
    if path.suffix == ".safetensors":
        try:
            with safe_open(str(path), "pt") as file:
                about = json.loads((file.metadata() or {}).get("synthct", "{}"))
                return {key: file.get_tensor(key) for key in file.keys()}, about  # noqa: SIM118
        except (SafetensorError, ValueError) as fault:
            raise InputError(f"checkpoint {path}: not a whole safetensors file ({fault})") from None
    return _unwrapped(load_torch(path), path), {}


def load_torch(path):
    """A torch file of tensors and plain values, to the CPU; `InputError` when it is damaged or holds code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign file the verdict counts, not torch's musings on its pickle
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as fault:
        if "weights_only" in str(fault) or "Unsupported" in str(fault):
            raise InputError(f"checkpoint {path}: holds Python objects other than weights, refused unread") from None
        raise InputError(f"checkpoint {path}: not a torch file ({str(fault).splitlines()[0]})") from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as fault:
        raise InputError(f"checkpoint {path}: damaged or not a torch file ({str(fault).splitlines()[0]})") from None


def fit(model: torch.nn.Module, weights: dict[str, torch.Tensor], path):
    """Load `weights` into `model`; `InputError` names the first tensor that is missing, unknown, of another shape, or
    of numbers that no network can have (`check_numbers`)."""
    expected = model.state_dict()
    for key, tensor in expected.items():
        if key not in weights:
            raise InputError(f"checkpoint {path}: no tensor {key}; of another network?")
        if weights[key].shape != tensor.shape:
            found, wanted = tuple(weights[key].shape), tuple(tensor.shape)
            raise InputError(f"checkpoint {path}: {key} is {found}, expected {wanted}; of another network?")
    if extra := sorted(set(weights) - set(expected)):
        raise InputError(f"checkpoint {path}: unknown tensor {extra[0]}; of another network?")
    check_numbers(weights, path)
    model.load_state_dict(weights)


def check_numbers(weights: dict[str, torch.Tensor], path):
    """`InputError` names the first tensor with a number that is not finite, or a variance below 0.

    A single one makes every voxel of an sCT the same, and no step would say why.
    """
    for key, tensor in weights.items():
        if not tensor.float().isfinite().all():  # as the network holds it: what float32 cannot is infinite
            raise InputError(f"checkpoint {path}: {key} has numbers that are not finite; did its training diverge?")
        if key.endswith("running_var") and (tensor < 0).any():
            raise InputError(f"checkpoint {path}: {key} is {tensor.min():g} somewhere, expected variances, 0 or more")


def _unwrapped(data, path) -> dict[str, torch.Tensor]:
    if isinstance(data, dict) and isinstance(data.get("Model"), dict):
        networks = data["Model"]
        name = next((name for name in PUBLISHED if name in networks), None)
        if name is None:
            found = next(iter(networks), "")
            raise InputError(f"checkpoint {path}: network {found!r}, expected {' or '.join(PUBLISHED)}")
        data = {key.removeprefix("model."): value for key, value in networks[name].items()}
    if not isinstance(data, dict) or not data or not all(isinstance(v, torch.Tensor) for v in data.values()):
        raise InputError(f"checkpoint {path}: neither weights nor a checkpoint of the published layout")
    return data
