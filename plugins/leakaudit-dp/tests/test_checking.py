"""Networks that cannot be protected are refused by the layer's name, also those that Opacus' validator passes."""

from __future__ import annotations

import pytest
import torch
from leakaudit_dp.checking import check, mend
from monai.networks.nets import BasicUNet, SegResNet, UNet
from opacus.validators import ModuleValidator
from torch import Tensor, nn

from leakaudit.errors import UserError
from leakaudit.models import SegmentationNet, SegmentationTask
from leakaudit.models.params import NetworkParams


def net(dims: int = 2, **fields: object) -> SegmentationNet:
    return SegmentationNet(dims, NetworkParams(channels=[4, 8, 8], **fields), [[0, 1], [2]], [0, 1])


def residual(dims: int) -> nn.Module:
    """Return the SegResNet that a recipe can choose; MONAI's own adds in place, which hooks forbid."""
    network = {"architecture": "segresnet", "init_filters": 8, "blocks_down": [1, 1], "blocks_up": [1], "dropout": 0.2}
    return SegmentationTask(network=network, training={}, dims=dims, groups=[[0, 1, 2]], levels=[]).build()


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (net(), (3, 64, 64)),
        (net(normalization="group", activation="prelu", upsample="transposed"), (3, 64, 64)),
        (net(normalization="none", activation="gelu"), (3, 64, 64)),
        (net(dims=3), (3, 32, 32, 32)),
        (residual(2), (3, 64, 64)),
        (residual(3), (3, 16, 16, 16)),
        (net().encoders[0], (2, 64, 64)),
        (net().encoders[0], ()),
        (UNet(2, 1, 2, (4, 8, 16), (2, 2)), ()),
    ],
)
def test_what_can_be_protected_passes_and_stays_as_it_was(module: nn.Module, shape: tuple[int, ...]) -> None:
    before = {k: v.clone() for k, v in module.state_dict().items()}
    state = torch.get_rng_state()
    check(module, shape)
    assert torch.equal(state, torch.get_rng_state())
    assert not any(hasattr(p, "grad_sample") or p.grad is not None for p in module.parameters())
    assert not any(m._forward_hooks or m._backward_hooks for m in module.modules())
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_batch_normalization_is_refused_by_the_layer_s_name() -> None:
    with pytest.raises(UserError, match=r"'encoders\.0\.blocks\.0\.0\.adn\.N' \(BatchNorm2d\)"):
        check(net(normalization="batch"), (3, 64, 64))


def test_in_place_activations_crash_until_they_are_mended() -> None:
    basic = BasicUNet(2, 1, 2, (4, 4, 8, 8, 16, 4))
    assert ModuleValidator.is_valid(basic)  # this is why a dry run follows
    with pytest.raises(UserError, match=r"layer 'conv_0\..*\(LeakyReLU\) cannot be run .*inplace"):
        check(basic, ())
    changed = mend(basic)
    assert "conv_0.conv_0.adn.A" in changed
    assert not any(getattr(m, "inplace", False) for m in basic.modules())
    check(basic, ())
    assert mend(basic) == []


def test_an_addition_in_place_cannot_be_mended_and_names_its_block() -> None:
    residual = SegResNet(2, 8, 1, 2)
    mend(residual)
    assert ModuleValidator.is_valid(residual)
    with pytest.raises(UserError, match=r"layer 'down_layers\.0\.1' \(ResBlock\) cannot be run .* `x = x \+ y`"):
        check(residual, ())


class Wrapped(nn.Module):
    def __init__(self, act) -> None:
        super().__init__()
        self.first, self.last, self.act = nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 1), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self)(x)


def test_a_layer_that_mixes_the_samples_is_found_although_opacus_knows_nothing_of_it() -> None:
    centered = Wrapped(lambda m: lambda x: m.last((y := m.first(x)) - y.mean(0, keepdim=True)))
    assert ModuleValidator.is_valid(centered)
    with pytest.raises(UserError, match=r"layer 'last' \(Conv2d\) .*mixes the samples"):
        check(centered, ())


def test_mixing_in_the_backward_pass_alone_is_found_too() -> None:
    def act(m: Wrapped):
        def forward(x: Tensor) -> Tensor:
            y = m.first(x)
            if y.requires_grad:
                y.register_hook(lambda g: g + g.mean(0, keepdim=True))
            return m.last(y)

        return forward

    with pytest.raises(UserError, match=r"layer 'first' \(Conv2d\)"):
        check(Wrapped(act), ())


def test_a_parameter_without_per_sample_gradient_is_named() -> None:
    with pytest.raises(UserError, match=r"layer 'last' \(Conv2d\) gives no per-sample gradient for its 'weight'"):
        check(Wrapped(lambda m: m.first), ())


def test_wrong_per_sample_gradients_are_found() -> None:
    class Late(nn.Module):
        """Its batch is not the first axis, which Opacus takes for granted."""

        def __init__(self) -> None:
            super().__init__()
            self.conv, self.line = nn.Conv2d(1, 4, 3), nn.Linear(14 * 14, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.line(self.conv(x).flatten(2).transpose(0, 1)).transpose(0, 1)

    with pytest.raises(UserError, match=r"layer '(line|conv)'"):
        check(Late(), ())


def test_a_network_without_convolution_needs_a_shape() -> None:
    with pytest.raises(UserError, match="does not begin with a convolution"):
        check(nn.Linear(3, 4), ())


def test_a_network_that_does_not_take_the_shape_is_refused() -> None:
    with pytest.raises(UserError, match=r"could not run .*\(2, 3, 40, 40\)"):
        check(nn.Conv2d(1, 4, 3), (3, 40, 40))


def test_running_statistics_and_buffers_are_refused() -> None:
    tracked = nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, affine=True, track_running_stats=True))
    with pytest.raises(UserError, match=r"layer '1' \(InstanceNorm2d\)"):
        check(tracked, ())
    buffered = nn.Sequential(nn.Conv2d(1, 4, 3))
    buffered[0].register_buffer("mean", torch.zeros(4))
    with pytest.raises(UserError, match=r"layer '0' \(Conv2d\) keeps buffers"):
        check(buffered, ())
