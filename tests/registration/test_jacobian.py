"""The dense engine's Jacobian mode: its derivative, its slabs, what it finds, and what it refuses."""

import numpy as np
import pytest
import registration_phantom as phantom
import torch
from torch import nn

from synthct.core.errors import InputError
from synthct.registration import pairwise, recipes
from synthct.registration.dense import extractors, jacobian
from synthct.registration.dense.bspline import ControlGrid
from synthct.registration.dense.freeform import Side
from synthct.registration.dense.points import SubLattices
from synthct.registration.dense.warp import PointMap

MODEL = "registration.arms.impact_dense.settings.models.network."
VOXEL = 3.0  # mm
FEW = ("registration.dense.voxel_mm=[6.0, 4.0, 3.0]", "registration.dense.iterations=[15, 8, 3]")


class Network(nn.Module):
    """Two blocks of random weights like M730's: stride 1, then 2, each normalised by the whole image's statistics."""

    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.InstanceNorm3d(4, affine=True), nn.LeakyReLU(0.1))
        self.second = nn.Sequential(
            nn.Conv3d(4, 6, 3, stride=2, padding=1), nn.InstanceNorm3d(6, affine=True), nn.LeakyReLU(0.1)
        )

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        one = self.first(x)
        return [one, self.second(one)]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("network") / "network.pt"
    torch.jit.script(Network()).save(str(path))
    return path


@pytest.fixture(scope="module")
def case():
    return phantom.pair()


def section(network, *overrides):
    alone = "registration.arms.impact_dense.settings.mind.weight=0"
    own = (f"{MODEL}extractor={network}", f"{MODEL}mode=jacobian", alone, *overrides)
    return phantom.section("cbct", *phantom.FINE, *own)


class Level:
    """One level of the made-up pair in float64: its term, and the term as a function of the spline's coefficients."""

    def __init__(self, case, network, slab_voxels=0, layers="11", distance="L2"):
        fixed, moving, mask, _ = case
        settings = recipes.recipe(section(network), "impact_dense").settings
        kept = [0.7, 0.3][: layers.count("1")]
        chosen = {"layers": layers, "layer_weights": kept, "distance": distance, "slab_voxels": slab_voxels}
        settings = {**settings, "models": {"network": {**settings["models"]["network"], **chosen}}}
        sides = [Side(fixed, settings, "image", "cpu"), Side(moving, settings, "ct", "cpu")]
        for side in sides:
            side.array = side.array.double()
        extract = extractors.extractors(settings, "cpu")["network"].double()
        self._map = PointMap(fixed.grid, moving.grid, np.eye(3), np.zeros(3), sides[1].box)
        self._map.linear = self._map.linear.double()
        control = ControlGrid.covering(fixed.grid, 20.0)
        inside = torch.as_tensor(mask.array).double()
        points = SubLattices(control, fixed, inside, VOXEL, 2, self._map, np.random.default_rng(1))
        self._part = points.next()
        self.term = jacobian.JacobianTerm(settings["models"]["network"], VOXEL, sides, extract, points.level.weight)
        generator = torch.Generator().manual_seed(2)
        self.coefficients, self.direction = (
            torch.randn((3, *control.size), generator=generator, dtype=torch.float64) for _ in range(2)
        )

    def __call__(self, coefficients: torch.Tensor) -> torch.Tensor:
        coordinates = self._map.moved(self._part.base, self._part.displacement(coefficients))
        return self.term(self._part, coordinates, self._part.weight)

    def gradient(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The value and its gradient at `coefficients`."""
        coefficients = self.coefficients.clone().requires_grad_()
        value = self(coefficients)
        return value.detach(), torch.autograd.grad(value, coefficients)[0]


def test_the_derivative_is_that_of_finite_differences(case, network):
    """Through the warped image, both layers, held norms and slabs."""
    level = Level(case, network, slab_voxels=12000)
    _, gradient = level.gradient()
    step = 1e-5
    ahead, behind = (level(level.coefficients + side * step * level.direction) for side in (1, -1))
    numeric = float(ahead - behind) / (2 * step)
    assert float((gradient * level.direction).sum()) == pytest.approx(numeric, rel=1e-5)


@pytest.mark.parametrize("layers", ["10", "01", "11"])
@pytest.mark.parametrize("distance", ["L1", "Cosine"])
def test_slabs_add_up_to_the_whole(case, network, layers, distance):
    whole, by_slabs = (Level(case, network, voxels, layers, distance) for voxels in (0, 9000))
    assert len(whole.term._slabs) == 1 and len(by_slabs.term._slabs) > 3
    (value, gradient), (other, others) = whole.gradient(), by_slabs.gradient()
    assert float(other) == pytest.approx(float(value), rel=1e-9)
    assert torch.allclose(others, gradient, rtol=1e-6, atol=1e-9 * float(gradient.abs().max()))
    assert float(by_slabs(by_slabs.coefficients)) == float(other)  # the first value of L1 counts once


def test_held_norms_change_nothing_on_their_own_image(network):
    extract = extractors.Scripted(network, "11", 1, "cpu")
    image = torch.randn(20, 18, 16, generator=torch.Generator().manual_seed(3))
    statistics, direction = torch.tensor([-3.0, 3.0, 0.0, 1.0]), torch.eye(3)
    held = jacobian.Held(extract, statistics, direction)
    plain = [layer[0] for layer in extract(image[None, None], statistics, direction)]
    for again in (held.learn(image), _maps(held, image)):
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(again, plain, strict=True))
    part = _maps(held, image[:14])
    assert torch.allclose(part[0][:, :13], plain[0][:, :13], atol=1e-5)
    assert not torch.allclose(
        extract(image[None, None, :14], statistics, direction)[0][0, :, :13], plain[0][:, :13], atol=1e-3
    )


def _maps(held, image):
    with torch.no_grad(), held as network:
        return network.maps(image)


def test_norms_of_a_gpu_are_held_like_those_of_a_cpu():
    """cuDNN's norm, called by its name: held mode answers it without running it."""
    x = torch.randn(1, 3, 6, 5, 4, requires_grad=True, generator=torch.Generator().manual_seed(4))
    weight, bias = torch.tensor([1.0, 2.0, 0.5]), torch.tensor([0.0, 1.0, -1.0])

    def native(x, _statistics, _direction):
        return [torch.instance_norm(x, weight, bias, None, None, True, 0.1, 1e-5, False)]

    def cudnn(x, _statistics, _direction):
        return [torch.cudnn_batch_norm(x, weight, bias, None, None, True, 0.1, 1e-5)[0]]

    results = []
    for norm in (native, cudnn):
        held = jacobian.Held(norm, torch.zeros(4), torch.eye(3))
        with held as network:
            network._norms = [(torch.tensor([2.0, 1.0, 3.0]), torch.tensor([0.1, 0.2, 0.3]))]
            network._next = 0
            (map_,) = norm(x, None, None)
            (gradient,) = torch.autograd.grad(map_.square().sum(), x)
        results.append((map_.detach(), gradient))
    assert torch.equal(results[0][0], results[1][0]) and torch.allclose(results[0][1], results[1][1])


@pytest.mark.parametrize(("extractor", "layers", "expected"), [("", "10", 2), ("", "01", 2), ("MIND R1D2", "1", None)])
def test_what_a_network_sees_is_measured(case, network, extractor, layers, expected):
    """MIND looks at a mean over the image, so it gets the image whole."""
    settings = recipes.recipe(section(network), "impact_dense").settings
    model = {**settings["models"]["network"], "extractor": extractor or str(network), "layers": layers}
    side = Side(case[0], settings, "image", "cpu")
    reach = jacobian.Reach.of(extractors.extractor(model), side, 0)
    assert (reach.overlap, reach.step) == (expected, 2 if layers == "01" else 1)


def test_a_known_displacement_is_found_and_found_again(case, network):
    fixed, moving, mask, truth = case
    overrides = (*FEW, f"{MODEL}slab_voxels=10000")
    first, second = (
        pairwise.register(
            fixed, moving, mask, section(network, *overrides), method="impact_dense", modality="cbct", moving_is="ct"
        )
        for _ in range(2)
    )
    before = phantom.error(first.transform.__class__(3), truth, mask)
    assert phantom.error(first.transform, truth, mask) < 0.5 * before
    assert first.quality["folding_fraction"] == 0
    assert np.array_equal(first.displacement.array, second.displacement.array)
    (term,) = first.quality["recipe"]["terms"]
    assert (term["layers"], term["distance"], term["mode"]) == ([1], "L1", "jacobian")


def test_both_modes_and_mutual_information_go_together(case, network):
    fixed, moving, mask, truth = case
    found = section(network, *FEW, "registration.arms.impact_dense.settings.mi.weight=0.1", f"{MODEL}layers=01")
    second = {"weight": 0.02, "mode": "static", "layers": "10", "extractor": str(network)}
    found["arms"]["impact_dense"]["settings"]["models"]["second"] = second
    result = pairwise.register(fixed, moving, mask, found, method="impact_dense", modality="cbct", moving_is="ct")
    before = phantom.error(result.transform.__class__(3), truth, mask)
    assert phantom.error(result.transform, truth, mask) < 0.7 * before
    modes = [term.get("mode") for term in result.quality["recipe"]["terms"]]
    assert sorted(map(str, modes)) == ["None", "jacobian", "static"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("mode=jacobi", "mode 'jacobi': expected static or jacobian"),
        ("distance=NCC", "distance 'NCC': not in mode jacobian"),
        ("slab_voxels=-1", "slab_voxels -1: expected 0 or more"),
    ],
)
def test_a_slip_in_its_settings_is_one_line_before_anything_is_read(network, override, said):
    with pytest.raises(InputError, match=said) as caught:
        pairwise.ready(section(network, MODEL + override), "impact_dense")
    assert "\n" not in str(caught.value)


def test_the_box_of_the_mask_is_covered_once():
    reach = jacobian.Reach(6, [(1, 1, 1), (2, 2, 2)])
    box, shape = [slice(5, 31), slice(3, 9), slice(0, 12)], (33, 10, 12)
    parts = jacobian.slabs(box, shape, 0, reach, 2000)
    kept = [list(range(*slab.outer[0].indices(33)))[slab.inner] for slab in parts]
    assert sum(kept, []) == list(range(4, 31)) and len(parts) > 1
    assert all((slab.outer[0].start + slab.inner.start) % 2 == 0 for slab in parts)
