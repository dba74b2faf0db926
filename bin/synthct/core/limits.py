"""What the numbers of a preset may be, whichever way they were given: refused before anything runs, not hours later.

All numbers are finite, and below zero only where the quantity can be. Rules that need more than the setting's own value
(a device, a network's depth) stand with the step that knows.
"""

import math

from synthct.core.errors import InputError

SIGNED = (
    *("ct_range", "clip_ct", "hu_range", "outside", "padding", "head_bias", "batchnorm_mean", "air_hu", "hu_table"),
    "registration.rigid.margin",  # below 0: MIND may even rise by this part
)
RANGES = ("ct_range", "clip_ct", "hu_range")  # two numbers, the lower first
SHARES = (  # 0 to 1
    *("curation.max_excluded", "training.flip_probability", "finetuning.flip_probability"),
    *("registration.rigid.ease", "registration.rigid.loss"),
)
BELOW_ONE = ("training.betas", "finetuning.betas")  # 0 to below 1
COUNTS = {  # of these the least that means something; of others 0, which mostly says "no limit"
    "training": ("channels", "batch", "patch", "validate_every", "validation_batch", "lr_every"),
    "finetuning": ("channels", "batch", "patch", "validate_every", "validation_batch", "lr_every"),
    "registration": (
        "iterations",
        "voxel_mm",
        "grid_mm",
        "step_mm",
        "grid_schedule",
        "pyramid_schedule",
        "bins",
        "stride",
        "trial_voxel_mm",
        "trial_grid_mm",
        "trial_iterations",
        "region_mm",
        "search_step_mm",
        "starts",
    ),
    "dose": ("grid_mm", "prescription_gy", "beamlet_mm"),
}
LENGTHS = {
    "registration.rigid.trial_grid_mm": 2,
    "preprocessing.spacing": 3,
    "training.patch": 2,
    "finetuning.patch": 2,
    "training.betas": 2,
    "finetuning.betas": 2,
}
WORDS = {2: "two", 3: "three"}
CHOICES = {
    "curation.mode": ("none", "auto"),
    "training.schedule": ("step", "cosine"),
    "finetuning.schedule": ("step", "cosine"),
    "inference.graph": ("eager", "fused"),
    "inference.precision": ("float32", "tf32", "bf16"),
    "inference.body_mask": ("threshold", "totalsegmentator"),
}


def check(tree: dict, where: str = ""):
    """Raise `InputError` for the first value of a resolved tree ({section: {...}}) that cannot be meant."""
    for key, value in tree.items():
        at = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict):
            check(value, at)
        else:
            _check_value(at, key, value)


def _check_value(at: str, key: str, value):
    numbers = _numbers(value)
    for number in numbers:
        if not math.isfinite(number):
            raise InputError(f"{at} {value}: expected finite numbers")
        least = 0 if key not in COUNTS.get(at.split(".")[0], ()) else 1 if isinstance(number, int) else math.ulp(0.0)
        if number < least and not {key, at} & set(SIGNED):
            expected = f"{least} or more" if least in (0, 1) else "more than 0"
            raise InputError(f"{at} {value}: expected {expected}")
    if at in SHARES and numbers and max(numbers) > 1:
        raise InputError(f"{at} {value}: expected a share, 0 to 1")
    if at in BELOW_ONE and numbers and max(numbers) >= 1:
        raise InputError(f"{at} {value}: expected numbers from 0 to below 1")
    if key in RANGES and isinstance(value, list) and not (len(value) == 2 and value[0] < value[1]):
        raise InputError(f"{at} {value}: expected two numbers, the lower first")
    if at in LENGTHS and isinstance(value, list) and len(value) != LENGTHS[at]:
        raise InputError(f"{at} {value}: expected {WORDS[LENGTHS[at]]} numbers")
    if at in CHOICES and value not in CHOICES[at]:
        raise InputError(f"{at} {value!r}: expected {' or '.join(CHOICES[at])}")


def _numbers(value) -> list:
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
