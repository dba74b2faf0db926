"""The dense engine on maps of a network: what it compares, where a map's voxels lie, and what it finds."""

from types import SimpleNamespace

import numpy as np
import pytest
import registration_phantom as phantom
import torch
from torch import nn

from synthct.core import presets
from synthct.core.errors import InputError
from synthct.registration import pairwise, recipes
from synthct.registration.dense import extractors, terms
from synthct.registration.dense.freeform import Side
from synthct.registration.dense.pyramid import positions
from synthct.registration.dense.warp import PointMap
from synthct.study import needs

ARM = "registration.arms.impact_dense.settings.models.network."


class Network(nn.Module):
    """Stands for an export of two layers: the image smoothed, at stride 1, and every second voxel of it."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        smooth = nn.functional.avg_pool3d(x, 3, 1, 1)
        return [torch.cat([x, smooth], 1), torch.cat([x, smooth], 1)[:, :, ::2, ::2, ::2]]


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    path = tmp_path_factory.mktemp("network") / "network.pt"
    torch.jit.script(Network()).save(str(path))
    return path


def section(network, *overrides):
    alone = "registration.arms.impact_dense.settings.mind.weight=0"
    return phantom.section("cbct", *phantom.FINE, f"{ARM}extractor={network}", alone, *overrides)


def test_maps_of_a_network_find_a_known_displacement(network):
    fixed, moving, mask, truth = phantom.pair()
    found = pairwise.register(
        fixed, moving, mask, section(network), method="impact_dense", modality="cbct", moving_is="ct"
    )
    before = phantom.error(found.transform.__class__(3), truth, mask)
    assert phantom.error(found.transform, truth, mask) < 0.5 * before
    assert found.quality["folding_fraction"] == 0
    assert found.quality["recipe"]["weights"].keys() == {"network.pt"}
    (term,) = found.quality["recipe"]["terms"]
    assert (term["layers"], term["distance"], term["mode"]) == ([1], "L1", "static")


@pytest.mark.parametrize("layers", ["10", "01"])
def test_a_map_lies_where_its_network_put_it(network, layers):
    """An image that grows by 1 a voxel: features at a point are the point's own place, whatever the layer's stride."""
    found = recipes.recipe(
        section(network, f"{ARM}layers={layers}", "registration.dense.models.network.standardise=false"), "impact_dense"
    )
    grid = phantom.GRID
    ramp = np.broadcast_to(np.arange(grid.shape[2], dtype=np.float32), grid.shape).copy()
    volume = phantom.Volume(ramp, grid)
    sides = [Side(volume, found.settings, role, "cpu") for role in ("image", "ct")]
    model = {**found.settings["models"]["network"], "distance": "NCC"}
    term = terms.FeatureTerm(model, 1.0, sides, extractors.extractors(found.settings, "cpu")["network"])
    points = PointMap(grid, grid, np.eye(3), np.zeros(3), sides[1].box)
    base = points.base(positions(grid, 1.0)).reshape(-1, 3)
    inner = torch.zeros(grid.shape, dtype=torch.bool)
    inner[6:-6, 6:-6, 6:-6] = True
    index = torch.nonzero(inner.reshape(-1))[:, 0]
    own = terms.lattice(grid.shape)[index]
    assert torch.allclose(own, base[index], atol=1e-5)
    values = term._fixed[0][0, index]
    expected = (torch.as_tensor(ramp.reshape(-1))[index] - ramp.mean()) / ramp.std()
    assert torch.allclose(values, expected, atol=1e-3)
    smooth = term._fixed[0][1].reshape(grid.shape)  # the network pads with zeros, which are no part of the image
    assert torch.allclose(smooth[0, 6:-6, 6:-6], smooth[15, 6:-6, 6:-6], atol=1e-3)


def test_the_derivative_is_that_of_finite_differences(network):
    fixed, moving, _, _ = phantom.pair()
    found = recipes.recipe(section(network), "impact_dense")
    sides = [Side(fixed, found.settings, "image", "cpu"), Side(moving, found.settings, "ct", "cpu")]
    model = {**found.settings["models"]["network"], "distance": "NCC"}
    term = terms.FeatureTerm(model, 3.0, sides, extractors.extractors(found.settings, "cpu")["network"])
    term._fixed = [layer.double() for layer in term._fixed]
    term._moving = [(layer.double(), scale.double()) for layer, scale in term._moving]
    shape = sides[0].at(3.0, 0.0).shape
    part = SimpleNamespace(index=torch.arange(0, int(np.prod(shape)), 97))
    own = terms.lattice(shape)[part.index].double()
    valid = torch.ones(len(own), dtype=torch.float64)

    def value(shift):
        return term(part, own + shift * own.new_tensor([0.011, -0.007, 0.005]), valid)

    shift = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(value(shift), shift)
    step = 1e-6
    numeric = (value(shift.detach() + step) - value(shift.detach() - step)) / (2 * step)
    assert float(derivative) == pytest.approx(float(numeric), rel=1e-4)


def test_absent_weights_are_known_before_anything_is_read(monkeypatch, tmp_path):
    for name in ("SYNTHCT_WEIGHTS", "TOTALSEG_WEIGHTS_PATH", "TOTALSEG_HOME_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    own = presets.resolve("paper", "cbct")
    for arm, layers in (("impact_dense", {1}), ("impact_jacobian", {1, 2})):
        found = needs.of_arm(own["registration"], arm)
        assert {need.network.name for need in found} == {"M730"} and {need.layers for need in found} == layers
        with pytest.raises(InputError, match="730"):
            pairwise.ready(own["registration"], arm)


def test_what_the_arms_compare(network):
    own = phantom.section("cbct", f"registration.dense.models.network.extractor={network}")
    said = {arm: recipes.terms(recipes.recipe(own, arm)) for arm in ("impact_dense", "impact_jacobian")}
    assert [term["compares"] for term in said["impact_dense"]] == ["MIND R1D1", str(network)]
    modes = [(term["layers"], term["mode"]) for term in said["impact_jacobian"]]
    assert modes == [([1], "static"), ([2], "jacobian")]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("distance=L3", "distance 'L3'"),
        ("layer_weights=[1.0,1.0]", "expected 1, one a kept layer"),
        ("patch=3", "unknown key"),
    ],
)
def test_a_slip_in_its_settings_is_one_line(network, override, said):
    with pytest.raises(InputError, match=said):
        pairwise.ready(section(network, ARM + override), "impact_dense")
