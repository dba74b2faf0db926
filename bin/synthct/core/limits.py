"""What the values of a preset may be, whichever way they were given: refused before anything runs, not hours later.

All numbers are finite, of a size that 32 bits hold, and below zero only where the quantity can be.
Rules that need more than the setting's own value (a device, a cohort) stand with the step that knows.

The tables name a setting by its path, or by section and key for one that stands in several tables of its section: those
of a region, of an arm.
"""

import math

from synthct.core.errors import InputError

SIGNED = (
    *("ct_range", "clip_ct", "hu_range", "outside", "padding", "head_bias", "batchnorm_mean", "air_hu", "hu_table"),
    "registration.margin",  # below 0: MIND may even rise by this part
)
RANGES = ("ct_range", "clip_ct", "hu_range")  # two numbers, the lower first
WHOLE = (  # lists of whole numbers; of others the elements may be fractions
    *("patch", "decoder_channels", "iterations", "stride", "layers"),
    *("grid_schedule", "pyramid_schedule", "sample_step"),
)
EMPTY = ("layers", "layer_weights")  # lists that may hold nothing
SHARES = (  # 0 to 1
    *("curation.max_excluded", "curation.body_dice", "curation.bone_dice"),
    *("training.flip_probability", "finetuning.flip_probability"),
    *("registration.ease", "registration.loss", "registration.least_limb"),
)
BELOW_ONE = ("training.betas", "finetuning.betas")  # 0 to below 1
LARGEST = 2**31 - 1  # whole number: of 32 bits, as ITK has it
LARGEST_FRACTION = 3e38  # likewise
SHORTEST_MM = {  # of an edge to work on: finer than any scanner's, or a body of them fits into no memory
    **{"preprocessing.spacing": 0.1, "registration.voxel_mm": 0.1, "registration.trial_voxel_mm": 0.5},
    **{"registration.grid_mm": 1.0, "registration.trial_grid_mm": 1.0, "registration.search_step_mm": 0.5},
    **{"registration.region_mm": 1.0, "dose.grid_mm": 0.5, "dose.beamlet_mm": 0.5},
}
ODD = ("training.channels", "finetuning.channels")  # a slice between as many on either side
STRIDE = 32  # of the network: sizes of a patch are multiples of it


def _either(section) -> dict:
    """What holds for training and for fine-tuning, and for the network alone, of which a bundle tells."""
    return {"training": section, "finetuning": section, "network": section}


COUNTS: dict[str, tuple[str, ...]] = {  # of these the least that means something; of others 0: mostly "no limit"
    **_either(("channels", "batch", "patch", "validate_every", "validation_batch", "lr_every", "decoder_channels")),
    "preprocessing": ("cbct_percentile",),
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
    "dose": (
        *("grid_mm", "prescription_gy", "beamlet_mm", "target_priority"),
        *("gamma_percent", "gamma_mm", "cutoff_mm", "semi_axes_mm"),
    ),
}
MOST: dict[str, dict[str, int]] = {
    **_either({"batch": 65536, "patch": 8192, "channels": 255, "decoder_channels": 4096, "validation_batch": 65536}),
    "preprocessing": {"cbct_percentile": 100, "spacing": 1000},
}
LENGTHS = {  # numbers in a list, from and to
    "registration.trial_grid_mm": (2, 2),
    "dose.semi_axes_mm": (3, 3),
    "preprocessing.spacing": (3, 3),
    "training.patch": (2, 2),
    "finetuning.patch": (2, 2),
    "training.betas": (2, 2),
    "finetuning.betas": (2, 2),
    **dict.fromkeys([f"{section}.decoder_channels" for section in _either({})], (3, 5)),
}
WORDS = {2: "two", 3: "three"}
DISTANCES = ("L1", "L2", "Cosine", "L1Cosine", "DotProduct", "Dice", "NCC")  # IMPACT's
CHOICES = {
    "curation.mode": ("none", "auto"),
    "inference.graph": ("eager", "fused"),
    "inference.precision": ("float32", "tf32", "bf16"),
    "inference.body_mask": ("threshold", "totalsegmentator"),
    "registration.sampler": ("Grid", "RandomCoordinate"),
    "registration.pyramid": ("recursive", "smoothing"),
    "registration.distance": DISTANCES,
    "registration.mode": ("static", "jacobian"),
    "registration.interpolation": ("cubic", "linear"),
    "registration.patches": ("mapped", "moved"),
    **{
        f"{section}.{key}": known
        for section in ("training", "finetuning")
        for key, known in {
            "schedule": ("step", "cosine"),
            "precision": ("float32", "bf16", "fp16"),
            "compile": ("off", "auto", "on"),
            "flip_per": ("volume", "slice"),
            "loss_region": ("patch", "mask"),
            "select": ("mae", "similarity"),
            "network.init": ("normal", "kaiming"),
            "network.encoder": ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        }.items()
    },
}
CHOICES["network.encoder"] = CHOICES["training.network.encoder"]


def check(tree: dict, where: str = ""):
    """Raise `InputError` for the first value of a resolved tree ({section: {...}}) that cannot be meant."""
    for key, value in tree.items():
        at = f"{where}.{key}".lstrip(".")
        if isinstance(value, dict):
            check(value, at)
        else:
            _check_value(at, key, value)


def _check_value(at: str, key: str, value):
    section = at.split(".")[0]
    names = {key, at, f"{section}.{key}"}
    numbers = _numbers(value)
    for number in numbers:
        if not math.isfinite(number):
            raise InputError(f"{at} {value}: expected finite numbers")
        if abs(number) > (top := LARGEST if isinstance(number, int) else LARGEST_FRACTION):
            raise InputError(f"{at} {value}: expected numbers up to {top}")
        least = 0 if key not in COUNTS.get(section, ()) else 1 if isinstance(number, int) else math.ulp(0.0)
        if number < least and not names & set(SIGNED):
            expected = f"{least} or more" if least in (0, 1) else "more than 0"
            raise InputError(f"{at} {value}: expected {expected}")
        if (most := MOST.get(section, {}).get(key)) and number > most:
            raise InputError(f"{at} {value}: expected {most} at most")
    shortest = SHORTEST_MM.get(f"{section}.{key}", 0.0)
    if any(0 < number < shortest for number in numbers):
        own = ", or 0 for the image's own" if key == "spacing" else ""
        raise InputError(f"{at} {value}: expected {shortest} mm or more{own}")
    if names & set(ODD) and not value % 2:
        raise InputError(f"{at} {value}: expected an odd number of slices")
    if names & set(SHARES) and numbers and max(numbers) > 1:
        raise InputError(f"{at} {value}: expected a share, 0 to 1")
    if names & set(BELOW_ONE) and numbers and max(numbers) >= 1:
        raise InputError(f"{at} {value}: expected numbers from 0 to below 1")
    if isinstance(value, list):
        _check_list(at, key, value, numbers)
    known = next((CHOICES[name] for name in (at, f"{section}.{key}") if name in CHOICES), None)
    if known and value not in known:
        raise InputError(f"{at} {value!r}: expected {' or '.join(known)}")


def _check_list(at: str, key: str, value: list, numbers: list):
    if key in RANGES and not (len(value) == len(numbers) == 2 and numbers[0] < numbers[1]):
        raise InputError(f"{at} {value}: expected two numbers, the lower first")
    length = LENGTHS.get(at) or LENGTHS.get(f"{at.split('.')[0]}.{key}")
    if length and not length[0] <= len(value) <= length[1]:
        expected = WORDS.get(length[0], length[0]) if length[0] == length[1] else f"{length[0]} to {length[1]}"
        raise InputError(f"{at} {value}: expected {expected} numbers")
    if not value and key not in EMPTY:
        raise InputError(f"{at} []: expected a number or more")
    if key in WHOLE and not all(isinstance(number, int) for number in value):
        raise InputError(f"{at} {value}: expected whole numbers")
    if key == "patch" and any(size % STRIDE for size in numbers):
        raise InputError(f"{at} {value}: expected two multiples of {STRIDE}")


def _numbers(value) -> list:
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [value] if isinstance(value, int | float) and not isinstance(value, bool) else []
