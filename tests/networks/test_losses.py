"""Losses: equal to their plain definition, gradients only where they are wanted, encoders of every kind."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from synthct.core.errors import InputError
from synthct.core.presets import resolve
from synthct.networks import perceptual, weights
from synthct.networks.checkpoint import load_torch
from synthct.networks.losses import Objective
from synthct.networks.nnunet import in_plane
from synthct.networks.terms import perceptual_terms

PAPER = resolve("paper", "mr")["training"]


def objective(encoder, **over) -> Objective:
    """L1 and half of one perceptual term, or L1 alone for None."""
    chosen = PAPER["perceptual"] | {"encoder": "mind" if encoder else "none", "weight": 0.5}
    return Objective(PAPER | {"perceptual": chosen} | over, {"mind": encoder} if encoder else {})


@pytest.fixture(scope="module")
def batch():
    torch.manual_seed(1)
    target = torch.rand(2, 1, 48, 32) * 2 - 1
    prediction = (target + 0.2 * torch.randn_like(target)).clamp(-1, 1)
    inside = torch.zeros_like(target, dtype=torch.bool)
    inside[..., 8:40, 6:26] = True
    return prediction, target, inside


def small_sam(layers=()) -> perceptual.Sam:
    torch.manual_seed(0)
    sam = perceptual.Sam("vit_b", list(layers) or [1, 2], None)
    nn.init.normal_(sam.pos_embed, 0, 0.02)
    return sam


def small_vgg() -> perceptual.Vgg19:
    torch.manual_seed(0)
    return perceptual.Vgg19([3, 8], None)


def test_l1_over_the_patch_or_the_mask(batch):
    prediction, target, inside = batch
    error = (prediction - target).abs()
    assert objective(None)(*batch)["loss"] == pytest.approx(float(error.mean()))
    masked = objective(None, loss_region="mask")(*batch)["loss"]
    assert masked == pytest.approx(float(error[inside].mean()), rel=1e-5)


@pytest.mark.parametrize("make", [small_vgg, small_sam])
def test_batched_is_sample_by_sample(batch, make):
    """The whole batch at once, target without gradient: the same loss and gradient as one by one with it."""
    encoder = perceptual.Photographs(make()).eval()
    prediction = batch[0].clone().requires_grad_()
    terms = objective(encoder)(prediction, *batch[1:])
    terms["loss"].backward()
    plain = batch[0].clone().requires_grad_()
    loss = (plain - batch[1]).abs().mean()
    for one, other in zip(plain.split(1), batch[1].split(1), strict=True):
        maps = zip(encoder(one, other), encoder(other, other), strict=True)
        loss = loss + 0.5 * sum((f - g).abs().mean() for f, g in maps) / 2
    loss.backward()
    assert terms["loss"].item() == pytest.approx(loss.item(), rel=1e-4)
    assert (prediction.grad - plain.grad).abs().max() < 1e-2 * plain.grad.abs().max()
    assert terms["perceptual"].item() == pytest.approx(0.5 * terms["mind"].item()) and terms["mind"].item() > 0


def test_terms_add_up_each_with_its_own_weight_and_layers(batch):
    """L1 + VGG-19 + SAM + MIND at once: the loss is the weighted sum, and each term stands beside it by itself."""
    perceptual_settings = PAPER["perceptual"] | {"encoder": "vgg19, sam,mind", "weight": 0.5}
    tables = {
        name: PAPER["perceptual"]["encoders"][name] | over
        for name, over in (
            ("vgg19", {"weight": 2.0, "layers": [3, 8], "layer_weights": [1.0, 0.25]}),
            ("sam", {"weight": 0.1}),
            ("mind", {"weight": 3.0}),
        )
    }
    perceptual_settings["encoders"] = tables
    made = {
        "vgg19": perceptual.Photographs(small_vgg()),
        "sam": perceptual.Photographs(small_sam()),
        "mind": perceptual.Mind([1]),
    }
    calls = []
    for name, module in made.items():
        module.register_forward_hook(lambda _module, given, _maps, name=name: calls.append((name, given[0])))
    together = Objective(PAPER | {"perceptual": perceptual_settings}, made).eval()
    assert together.terms == ("loss", "l1", "perceptual", "vgg19", "sam", "mind")
    terms = {name: value.item() for name, value in together(*batch).items()}
    assert [name for name, given in calls if given is batch[1]] == ["vgg19", "sam", "mind"]  # the target once each
    maps = zip(*(made["vgg19"](image, batch[1]) for image in batch[:2]), strict=True)
    distances = [(f - g).abs().mean().item() for f, g in maps]
    assert terms["vgg19"] == pytest.approx(distances[0] + 0.25 * distances[1], rel=1e-5)
    assert terms["perceptual"] == pytest.approx(
        0.5 * (2 * terms["vgg19"] + 0.1 * terms["sam"] + 3 * terms["mind"]), rel=1e-5
    )
    assert terms["loss"] == pytest.approx(terms["l1"] + terms["perceptual"], rel=1e-6)


def test_which_terms_the_settings_choose():
    chosen = PAPER["perceptual"]
    assert [term["name"] for term in perceptual_terms(chosen)] == ["vgg19", "sam", "totalsegmentator"]
    assert perceptual_terms(chosen | {"encoder": "none"}) == perceptual_terms(chosen | {"weight": 0.0}) == []
    (one,) = perceptual_terms(chosen | {"encoder": "sam", "layers": [2], "variant": "vit_l", "weight": 0.2})
    assert (one["kind"], one["layers"], one["variant"], one["weight"], one["tile"]) == ("sam", [2], "vit_l", 0.2, 512)
    with pytest.raises(InputError, match="expected none, or names of vgg19, sam,"):
        perceptual_terms(chosen | {"encoder": "resnet"})
    with pytest.raises(InputError, match=r"2 encoders are chosen, expected training.perceptual.encoders.sam.layers or"):
        perceptual_terms(chosen | {"encoder": "sam,vgg19", "layers": [2]})


def test_each_layer_keeps_its_weight_in_whatever_order_they_are_given(batch):
    """Encoders give their maps from the first layer on."""
    losses = []
    for layers, layer_weights in (([3, 8], [0.1, 1.0]), ([8, 3], [1.0, 0.1])):
        chosen = PAPER["perceptual"] | {"encoder": "vgg19", "layers": layers, "layer_weights": layer_weights}
        torch.manual_seed(0)
        encoder = perceptual.Photographs(perceptual.Vgg19(layers, None)).eval()
        losses.append(Objective(PAPER | {"perceptual": chosen}, {"vgg19": encoder})(*batch)["loss"].item())
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"encoder": "vgg19", "layers": [3, 37]}, "expected 0 to 36"),
        ({"encoder": "sam", "layers": [12]}, "expected 0 to 11"),
        ({"encoder": "sam", "variant": "vit_x"}, "variant 'vit_x', expected vit_b, vit_l, vit_h"),
        ({"encoder": "mind", "layers": [0, 1]}, "expected 1 and more"),
        ({"encoder": "vgg19", "layers": [8, 8]}, "expected each once"),
        ({"encoder": "vgg19", "layer_weights": [1.0]}, "1 layer_weights for 5 layers"),
    ],
)
def test_layers_that_an_encoder_has_not_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        perceptual_terms(PAPER["perceptual"] | change)


def test_ones_own_term_is_a_table(tmp_path):
    own = tmp_path / "mine.toml"
    own.write_text(
        'inherit = "paper"\n[training.perceptual]\nencoder = "sam,large"\n[training.perceptual.encoders.large]\n'
        'kind = "sam"\nweight = 0.5\nlayers = [23]\nlayer_weights = []\nweights = ""\nvariant = "vit_l"\ntile = 512\n'
    )
    settings = resolve(own, "mr")
    assert [term["variant"] for term in perceptual_terms(settings["training"]["perceptual"])] == ["", "vit_l"]
    assert [need.network.name for need in weights.of_training(settings["training"])] == [
        "sam_vit_b_01ec64.pth",
        "sam_vit_l_0b3195.pth",
    ]


def test_a_perfect_prediction_costs_nothing(batch):
    for encoder in (perceptual.Photographs(small_vgg()), perceptual.Mind([])):
        assert float(objective(encoder)(batch[1], batch[1], batch[2])["loss"]) == 0


def test_masked_perceptual_sees_the_target_outside(batch):
    prediction, target, inside = batch
    wrong_outside = torch.where(inside, target, prediction)
    terms = objective(perceptual.Mind([]), loss_region="mask")(wrong_outside, target, inside)
    assert float(terms["perceptual"]) == 0


def test_mind_follows_edges_not_brightness():
    """A brighter copy of an image is closer, for MIND, than one with the edge elsewhere."""
    image = torch.zeros(1, 1, 32, 32)
    image[..., :16] = 0.5
    moved = torch.zeros(1, 1, 32, 32)
    moved[..., :22] = 0.5
    mind = perceptual.Mind([1])
    maps = [mind(x, x)[0] for x in (image, image * 1.2, moved)]
    assert (maps[0] - maps[1]).abs().mean() < 0.2 * (maps[0] - maps[2]).abs().mean()


def test_sam_takes_any_size_by_interpolated_positions():
    sam = small_sam([0])
    assert sam._position(torch.Size((64, 64))) is sam.pos_embed
    assert sam._position(torch.Size((20, 12))).shape == (1, 20, 12, 768)
    maps = sam(torch.zeros(1, 3, 96, 64))
    assert [tuple(one.shape) for one in maps] == [(1, 768, 6, 4)]


def test_photographs_are_scaled_by_the_targets_range():
    """[low, high] of the target becomes [0, 1], then ImageNet's mean and deviation."""

    class Whole(nn.Module):
        def forward(self, x):
            return [x]

    target = torch.tensor([-1.0, 0.0, 1.0]).view(1, 1, 1, 3)
    (seen,) = perceptual.Photographs(Whole())(target, target)
    assert seen[0, 0, 0].tolist() == pytest.approx(
        [-0.485 / 0.229, (0.5 - 0.485) / 0.229, (1 - 0.485) / 0.229], rel=1e-4
    )
    air = torch.full((1, 1, 4, 4), -1.0)
    assert perceptual.Photographs(Whole())(air + 0.1, air)[0].abs().max() < 5  # a target of air alone does not blow up


def test_large_slices_are_cut_into_tiles():
    image = torch.arange(6 * 10.0).view(1, 1, 6, 10)
    cut = perceptual.tiles(image, 5)
    assert cut.shape == (4, 1, 3, 5)
    assert torch.equal(cut[3, 0], image[0, 0, 3:, 5:])
    assert perceptual.tiles(image, 10) is image
    assert perceptual.tiles(torch.zeros(1, 1, 40, 30), 0).shape == (1, 1, 40, 30)  # 0: whole


def test_weights_are_read_where_they_are_put(tmp_path, monkeypatch):
    torch.manual_seed(3)
    source = perceptual.make_layers(perceptual.cfgs["E"])
    torch.save(
        {f"features.{key}": value for key, value in source.state_dict().items()}, tmp_path / "vgg19-dcbb9e9d.pth"
    )
    monkeypatch.setenv("SYNTHCT_WEIGHTS", str(tmp_path))
    settings = PAPER["perceptual"] | {"encoder": "vgg19", "layers": [0]}
    encoder = perceptual.encoders(settings)["vgg19"]
    assert torch.equal(encoder.features.blocks[0].weight, source[0].weight)
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    said = f"sam_vit_b_01ec64.pth for .* sam; M291 .*fetch sam_vit_b_01ec64.pth M291 --weights {tmp_path}"
    with pytest.raises(InputError, match=said):  # all that is absent at once; VGG-19 is there
        perceptual.encoders(PAPER["perceptual"])
    renamed = (tmp_path / "vgg19-dcbb9e9d.pth").rename(tmp_path / "ours.pth")
    assert perceptual.encoders(settings | {"weights": str(renamed)})["vgg19"].features.layers == [0]


class PlainEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = self.first(x)
        return [x, self.second(x)]


class ImpactEncoder(nn.Module):
    """With the signature of the encoders published for IMPACT."""

    def forward(self, x: torch.Tensor, layers: torch.Tensor, stats: torch.Tensor) -> list[torch.Tensor]:
        x = (x - stats[0]) / (stats[1] - stats[0])
        return [x * (i + 1) for i in range(min(int(layers.item()), 3))]


def test_torchscript_encoders(tmp_path):
    torch.jit.script(PlainEncoder()).save(str(tmp_path / "plain.pt"))
    torch.jit.script(ImpactEncoder()).save(str(tmp_path / "impact.pt"))
    target = torch.rand(2, 1, 32, 32) * 2 - 1
    settings = PAPER["perceptual"] | {"encoder": "torchscript", "weights": str(tmp_path / "plain.pt"), "layers": [1]}
    (encoder,) = perceptual.encoders(settings).values()
    assert [tuple(one.shape) for one in encoder(target, target)] == [(2, 5, 28, 28)]
    settings |= {"weights": str(tmp_path / "impact.pt"), "layers": [0, 2]}
    first, third = perceptual.encoders(settings)["torchscript"](target, target)
    unit = (target - target.amin((1, 2, 3), True)) / (target.amax((1, 2, 3), True) - target.amin((1, 2, 3), True))
    assert torch.allclose(first, unit.expand(-1, 3, -1, -1), atol=1e-5)  # it standardises by itself
    assert torch.allclose(third, 3 * first)
    with pytest.raises(InputError, match="the encoder has 3 layers"):
        perceptual.encoders(settings | {"layers": [7]})["torchscript"](target, target)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("size", [(14, 14), (5, 9)])
def test_sams_attention_is_its_packages(size, deterministic):
    """Rows and columns as parts of query and key, against the package's sum for all pairs of places: the result, and
    the gradient at the input. Sizes other than the one that the tables were made for interpolate them."""
    from segment_anything.modeling.image_encoder import Attention

    draw = torch.Generator().manual_seed(4)
    package = Attention(32, num_heads=2, use_rel_pos=True, input_size=(14, 14))
    for one in package.parameters():
        nn.init.normal_(one, std=0.5, generator=draw)
    ours = perceptual.Attention(package)
    x = torch.randn(2, *size, 32, generator=draw)
    found = []
    was = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(deterministic)
    try:
        for attention in (ours, package):
            given = x.clone().requires_grad_()
            y = attention(given)
            (y**2).mean().backward()
            found.append((y.detach(), given.grad))
    finally:
        torch.use_deterministic_algorithms(was)
    for one, other in zip(*found, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5 * float(other.abs().max()))


def test_totalsegmentators_encoder(tmp_path, monkeypatch):
    """A trained nnU-Net as the totalsegmentator package keeps it, here two stages with random weights."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    kind = {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "kernel_sizes": [[3, 3, 3]] * 2,
        "conv_bias": True,
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [2, 2],
        "n_conv_per_stage_decoder": [2],
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin_kwargs": {"inplace": True},
    }
    network = PlainConvUNet(
        input_channels=1, num_classes=3, conv_op=nn.Conv3d, norm_op=nn.InstanceNorm3d, nonlin=nn.LeakyReLU, **kind
    )
    place = tmp_path / "Dataset291_TotalSegmentator_part1_organs_1559subj" / "nnUNetTrainer__nnUNetPlans__3d_fullres"
    (place / "fold_0").mkdir(parents=True)
    torch.save(
        {"network_weights": network.state_dict(), "logging": {"loss": [np.float32(1.5), np.float64(2)]}},
        place / "fold_0" / "checkpoint_final.pth",
    )
    named = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "nonlin": "torch.nn.LeakyReLU",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    }
    properties = {"percentile_00_5": -1000.0, "percentile_99_5": 1000.0, "mean": 0.0, "std": 500.0}
    plans = {
        "dataset_name": "d",
        "plans_name": "nnUNetPlans",
        "configurations": {
            "3d_fullres": {
                "architecture": {
                    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
                    "arch_kwargs": kind | named,
                    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
                }
            }
        },
        "foreground_intensity_properties_per_channel": {"0": properties},
    }
    (place / "plans.json").write_text(json.dumps(plans))
    (place / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "a": 1, "b": 2}}))
    monkeypatch.setenv("TOTALSEG_WEIGHTS_PATH", str(tmp_path))
    settings = PAPER["perceptual"] | {"encoder": "totalsegmentator", "layers": [0, 1]}
    encoder = perceptual.encoders(settings)["totalsegmentator"].eval()
    target = torch.rand(2, 1, 32, 32) * 2 - 1
    maps = encoder(target, target)
    assert [tuple(one.shape) for one in maps] == [(2, 4, 32, 32), (2, 8, 16, 16)]
    hu = ((target + 1) / 2 * 4095 - 1024).clamp(-1000, 1000) / 500
    with torch.inference_mode():
        volumes = network.encoder(hu[:, :, None])  # of one slice each, as the network was made for
    assert all(torch.allclose(one, other[:, :, 0], atol=1e-4) for one, other in zip(maps, volumes, strict=True))


@pytest.mark.parametrize("norm", [nn.InstanceNorm3d, nn.BatchNorm3d])
@pytest.mark.parametrize("residual", [False, True])
def test_an_encoder_in_the_plane_says_what_it_says_of_one_slice(residual, norm):
    """Whatever nnU-Net's planner makes of it: kernels and strides without depth, residual blocks, dropout."""
    from dynamic_network_architectures.architectures import unet

    torch.manual_seed(3)
    family, blocks = (
        (unet.ResidualEncoderUNet, "n_blocks_per_stage") if residual else (unet.PlainConvUNet, "n_conv_per_stage")
    )
    network = family(
        input_channels=1,
        n_stages=3,
        features_per_stage=[4, 8, 8],
        conv_op=nn.Conv3d,
        kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 1]],
        num_classes=2,
        n_conv_per_stage_decoder=1,
        conv_bias=not residual,
        norm_op=norm,
        norm_op_kwargs={"affine": norm is nn.BatchNorm3d},
        dropout_op=nn.Dropout3d,
        dropout_op_kwargs={"p": 0.3},
        nonlin=nn.LeakyReLU,
        **{blocks: 2},
    ).encoder
    network(torch.randn(3, 1, 1, 32, 32) * 3 + 1)  # what BatchNorm has seen
    slices = torch.randn(2, 1, 16, 24)
    with torch.inference_mode():
        volumes = network.eval()(slices[:, :, None])
        maps = in_plane(copy.deepcopy(network))(slices)
    for one, other in zip(maps, volumes, strict=True):
        assert torch.allclose(one, other[:, :, 0], atol=1e-5)


def test_in_the_plane_depth_is_not_pooled_and_what_is_unknown_is_refused():
    """A stride along z, of which a slice by itself has nothing; a residual block pools beside it."""
    pooled = in_plane(
        nn.Sequential(nn.AvgPool3d((2, 2, 2), (2, 2, 2)), nn.Conv3d(4, 4, 3, dilation=2, padding=2, groups=2))
    )
    assert pooled(torch.randn(2, 4, 8, 8)).shape == (2, 4, 4, 4)
    with pytest.raises(InputError, match="LPPool3d"):
        in_plane(nn.Sequential(nn.LPPool3d(2, 2)))


def test_a_file_that_is_no_checkpoint_is_named(tmp_path):
    (tmp_path / "weights.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(InputError, match="weights.pt"):
        load_torch(tmp_path / "weights.pt")
