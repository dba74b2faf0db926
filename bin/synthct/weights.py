"""Where the weights of fixed encoders lie, and what to tell a user who does not have them."""

import os
from pathlib import Path

import torch

from synthct.errors import InputError

SOURCES = {  # file: where it is published
    "vgg19-dcbb9e9d.pth": "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth",
    "sam_vit_b_01ec64.pth": "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_b_01ec64.pth",
    "sam_vit_l_0b3195.pth": "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_l_0b3195.pth",
    "sam_vit_h_4b8939.pth": "https://dl.fbaipublicfiles.com/segment_anything/sam_vit_h_4b8939.pth",
    "SAM2.1_Small.pt": "https://huggingface.co/VBoussot/impact-torchscript-models (SAM2.1_Small.pt)",
}

MR_NETWORKS = ("730", "731", "732", "733", "850", "851", "852", "853")  # TotalSegmentator data sets of MR

ABSENT = "weights of the perceptual loss are not there"
OTHERWISE = "choose training.perceptual.encoder=mind or none"


def directory() -> Path:
    """Where weights are looked for: $SYNTHCT_WEIGHTS, else torch's own checkpoint cache."""
    given = os.environ.get("SYNTHCT_WEIGHTS")
    return Path(given) if given else Path(torch.hub.get_dir()) / "checkpoints"


def locate(name: str, given: str) -> Path:
    """The weight file `given` (a path, or a directory that holds `name`), else `name` in `directory()`."""
    place = Path(given) if given else directory()
    path = place / name if place.is_dir() or not given else place
    if not path.is_file():
        raise InputError(
            f"{ABSENT}: get {SOURCES[name]} and put it at {path} (or name its path with "
            f"training.perceptual.weights), or {OTHERWISE}"
        )
    return path


def locate_totalsegmentator(number: str, given: str, *, wanted_by: str, otherwise: str) -> Path:
    """The fold directory of a TotalSegmentator nnU-Net, which is `given` itself, or lies under `given`, or under
    $TOTALSEG_WEIGHTS_PATH, or where the totalsegmentator package keeps weights.

    `number` is the nnU-Net data set's, e.g. "291" (organs). `wanted_by` and `otherwise` complete the message of the
    `InputError` for absent weights: what asked for them, and what can be done without.
    """
    from totalsegmentator.config import get_weights_dir  # heavy, and only wanted for these networks

    root = Path(given or os.environ.get("TOTALSEG_WEIGHTS_PATH") or get_weights_dir())
    for place in [root, *sorted(root.glob(f"Dataset{number}_*/*/fold_0"))]:
        if (place / "checkpoint_final.pth").is_file() and (place.parent / "plans.json").is_file():
            return place
    task = "total_mr" if number in MR_NETWORKS else "total"
    raise InputError(
        f"{wanted_by}: no Dataset{number}_*/*/fold_0/checkpoint_final.pth under {root}; run "
        f"`totalseg_download_weights -t {task}` (github.com/wasserth/TotalSegmentator releases), or set "
        f"TOTALSEG_WEIGHTS_PATH, or {otherwise}"
    )
