"""What no setting can be: refused where a preset is resolved, with the setting's name and what was expected."""

import re

import pytest

from synthct.core.errors import InputError
from synthct.core.presets import resolve


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("preprocessing.cbct_percentile=200.0", "100 at most"),
        ("preprocessing.cbct_percentile=0.0", "more than 0"),
        ("preprocessing.spacing=[0.0001, 1.0, 1.0]", "0.1 mm or more, or 0"),
        ("preprocessing.outside=1e39", "up to 3e+38"),
        ("training.seed=99999999999999999999999", "up to 2147483647"),
        ("training.network.decoder_channels=[0, 0, 0, 0, 0]", "1 or more"),
        ("training.network.decoder_channels=[16.0, 8, 8]", "whole numbers"),
        ("training.network.decoder_channels=[8, 8]", "3 to 5 numbers"),
        ("training.network.encoder=resnet999", "resnet18 or"),
        ("training.network.init=foo", "normal or kaiming"),
        ("training.batch=1000000000", "65536 at most"),
        ("training.patch=[64, 1000000]", "8192 at most"),
        ("training.patch=[63, 65]", "two multiples of 32"),
        ("finetuning.patch=[63, 65]", "two multiples of 32"),
        ('training.patch=["a", 64]', "type of its default"),
        ("training.precision=fp8", "float32 or bf16 or fp16"),
        ("finetuning.precision=fp8", "float32 or bf16 or fp16"),
        ("training.loss_region=foo", "patch or mask"),
        ("training.flip_per=foo", "volume or slice"),
        ("training.select=foo", "mae or similarity"),
        ("registration.elastix.sampler=Foo", "Grid or RandomCoordinate"),
        ("registration.elastix.pyramid=Foo", "recursive or smoothing"),
        ("registration.elastix.iterations=[]", "a number or more"),
        ("registration.elastix.iterations=[1.5, 2, 3]", "whole numbers"),
    ],
)
def test_a_value_that_cannot_be_meant_is_refused(override, said):
    name = re.escape(override.partition("=")[0])
    with pytest.raises(InputError, match=rf"{name}.*{re.escape(said)}"):
        resolve("paper", "cbct", [override])


def test_a_region_s_value_is_held_to_the_same(tmp_path):
    own = tmp_path / "mine.toml"
    for text in ('elastix.region.PELVIS.sampler = "Foo"', 'arms.elastix.settings.sampler = "Foo"'):
        own.write_text(f'inherit = "paper"\n[registration]\n{text}\n')
        with pytest.raises(InputError, match=r"sampler 'Foo': expected Grid or"):
            resolve(own, "mr")
