"""The parts of `model-inversion`: decoder, losses, and the split of the auxiliary patients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.losses import reconstruction_loss, ssim_loss
from leakaudit_inversion.source import held_out_rows


@pytest.mark.parametrize(
    ("levels", "shape"),
    [
        ({"level0": (8, 32, 32)}, (32, 32)),
        ({"level2": (8, 8, 8)}, (32, 32)),
        ({"level0": (4, 24, 20), "level3": (8, 3, 3)}, (24, 20)),
        ({"level1": (4, 8, 8, 8)}, (16, 16, 16)),
        ({"a.b": (4, 11, 13)}, (21, 25)),
    ],
)
def test_images_come_out_in_full_size(levels: dict[str, tuple[int, ...]], shape: tuple[int, ...]) -> None:
    examples = {name: torch.randn(3, *size) for name, size in levels.items()}
    assert Decoder(examples, shape, 2, width=8)(examples).shape == (3, 2, *shape)


def test_an_image_is_decoded_alike_alone_and_in_company() -> None:
    torch.manual_seed(0)
    z = {"level0": torch.randn(5, 4, 16, 16)}
    decoder = Decoder(z, (16, 16), 1, width=8)
    torch.testing.assert_close(decoder(z)[2:3], decoder({"level0": z["level0"][2:3]}), atol=1e-5, rtol=1e-4)


def test_the_scale_of_what_arrives_does_not_matter() -> None:
    z = torch.randn(4, 4, 16, 16)
    out = []
    for scale, shift in ((1.0, 0.0), (100.0, 7.0)):
        torch.manual_seed(0)
        arriving = {"level1": z * scale + shift}
        out.append(Decoder(arriving, (32, 32), 1)(arriving))
    torch.testing.assert_close(out[0], out[1], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(("size", "words"), [((16,), "feature maps"), ((4, 64, 64), "finer than the image")])
def test_what_cannot_be_decoded_is_refused_by_name(size: tuple[int, ...], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Decoder({"level1": torch.randn(2, *size)}, (32, 32), 1)


def test_errors_outside_the_brain_weigh_little() -> None:
    truth, brain = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8)
    brain[..., :4] = 1
    inside, outside = brain.clone(), 1 - brain
    within = reconstruction_loss(inside, truth, brain, "mse").item()
    assert within == pytest.approx(10 * reconstruction_loss(outside, truth, brain, "mse").item(), rel=1e-5)
    assert reconstruction_loss(inside, truth, brain, "mse+l1").item() == pytest.approx(2 * within, rel=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_ssim_loss_runs_from_zero_for_the_truth_to_about_one_for_noise(dims: int) -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(2, 1, *(16,) * dims, generator=generator)
    brain = torch.ones(2, 1, *(16,) * dims)
    noise = torch.randn(truth.shape, generator=generator)
    losses = [ssim_loss(truth + s * noise, truth, brain).item() for s in (0, 0.3, 1.0)]
    assert losses[0] == pytest.approx(0, abs=1e-4)
    assert losses == sorted(losses)
    assert ssim_loss(noise, truth, brain).item() == pytest.approx(1, abs=0.15)
    assert np.isfinite(ssim_loss(torch.zeros_like(truth), torch.zeros_like(truth), brain).item())


def test_held_out_samples_are_of_other_patients(brains: Any) -> None:
    cohort = brains([f"p{i // 3}" for i in range(30)], 2, 16)
    train, held = held_out_rows(cohort, 0.2, torch.Generator().manual_seed(0))
    assert sorted([*train.tolist(), *held.tolist()]) == list(range(30))
    assert len(held) == 6
    assert not {cohort.samples[i].patient for i in train} & {cohort.samples[i].patient for i in held}


def test_a_single_patient_is_not_held_out(brains: Any) -> None:
    train, held = held_out_rows(brains(["p0", "p0"], 2, 16), 0.5, torch.Generator())
    assert (len(train), len(held)) == (2, 0)
