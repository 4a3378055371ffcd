from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, gaussian_filter
from skimage.metrics import normalized_mutual_information, peak_signal_noise_ratio, structural_similarity

from leakaudit.scoring.checks import EvidenceError
from leakaudit.scoring.images import masked_mse, masked_nmi, masked_psnr, masked_ssim, ms_ssim, ms_ssim_scales, ssim_map


def phantom(seed, share, n=240):
    a = np.sqrt(share * n * n / (1.2 * np.pi))
    y, x = np.mgrid[:n, :n]
    mask = ((y - n / 2) / (1.2 * a)) ** 2 + ((x - n / 2) / a) ** 2 <= 1
    texture = gaussian_filter(np.random.default_rng(seed).standard_normal((n, n)), 3)
    texture = (texture - texture.min()) / (texture.max() - texture.min())
    return np.where(mask, 0.3 + 0.6 * texture, 0.0), mask


TABLE = {
    0.20: (0.762, [(0.858, 0.865, 0.331, 19.35), (0.876, 0.882, 0.417, 20.64), (0.878, 0.884, 0.424, 20.67)]),
    0.35: (0.596, [(0.734, 0.747, 0.283, 19.11), (0.782, 0.792, 0.409, 20.64), (0.782, 0.793, 0.411, 20.60)]),
    0.50: (0.431, [(0.613, 0.632, 0.268, 19.09), (0.684, 0.699, 0.400, 20.76), (0.687, 0.702, 0.406, 20.75)]),
}


@pytest.mark.parametrize("share", TABLE)
def test_background_inflates_ssim_by_the_reference_table(share):
    truth, mask = phantom(1, share)
    guesses = [phantom(2, share)[0], np.mean([phantom(s, share)[0] for s in range(2, 52)], 0), np.where(mask, 0.6, 0)]
    background, rows = TABLE[share]
    for guess, (cropped, full, inside, psnr) in zip(guesses, rows, strict=True):
        local = ssim_map(guess[None], truth[None], 1.0)[0]
        inner = local[3:-3, 3:-3]
        assert inner.mean() == pytest.approx(cropped, abs=1e-3)
        assert local.mean() == pytest.approx(full, abs=1e-3)
        assert local[mask].mean() == pytest.approx(inside, abs=1e-3)
        assert masked_psnr(guess[None], truth[None], mask[None], 1.0)[0] == pytest.approx(psnr, abs=0.006)
        # The identity: constant windows score exactly 1, so SSIM = b + (1 - b) x the rest.
        windows = np.lib.stride_tricks.sliding_window_view(mask, (7, 7)).any((2, 3))
        b = 1 - windows.mean()
        assert b == pytest.approx(background, abs=1e-3)
        assert b + (1 - b) * inner[windows].mean() == pytest.approx(inner.mean(), abs=1e-12)


@pytest.mark.parametrize("shape", [(3, 30, 41), (2, 12, 15, 13)])
@pytest.mark.parametrize("win", [3, 7])
def test_map_equals_scikit_image(shape, win):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.normal(size=shape)
    ranges = np.arange(1, shape[0] + 1) * 2.0
    ours = ssim_map(x, y, ranges, win=win)
    for i in range(shape[0]):
        expected = structural_similarity(x[i], y[i], win_size=win, data_range=ranges[i], full=True)[1]
        assert np.abs(ours[i] - expected).max() < 1e-9


def test_blocks_do_not_change_the_map(monkeypatch):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(5, 20, 20)), rng.normal(size=(5, 20, 20))
    whole = ssim_map(x, y, 4.0)
    monkeypatch.setattr("leakaudit.scoring.images._BLOCK", 800)
    assert np.array_equal(whole, ssim_map(x, y, 4.0))


def test_masked_ssim_averages_inside_the_eroded_brain():
    truth, mask = phantom(1, 0.35, n=80)
    guess = phantom(2, 0.35, n=80)[0]
    local = structural_similarity(guess, truth, win_size=7, data_range=1.0, full=True)[1]
    core = binary_erosion(mask, np.ones((7, 7)))
    assert masked_ssim(guess[None], truth[None], mask[None], 1.0)[0] == pytest.approx(local[core].mean())


def test_masked_ssim_ignores_everything_outside_the_brain():
    truth, mask = phantom(1, 0.35, n=80)
    guess = phantom(2, 0.35, n=80)[0]
    noisy = np.where(mask, guess, np.random.default_rng(0).normal(size=guess.shape))
    values = masked_ssim(np.stack([guess, noisy]), np.stack([truth, truth]), np.stack([mask, mask]), 1.0)
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_a_thin_mask_is_used_whole_and_an_empty_one_is_an_error():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(1, 20, 20)), rng.normal(size=(1, 20, 20))
    mask = np.zeros((1, 20, 20), bool)
    mask[0, 10, 5:8] = True
    assert masked_ssim(x, y, mask, 4.0)[0] == pytest.approx(ssim_map(x, y, 4.0)[mask].mean())
    with pytest.raises(EvidenceError, match="empty brain mask"):
        masked_ssim(x, y, np.zeros_like(mask), 4.0)


def test_mse_psnr_and_nmi_inside_the_mask():
    rng = np.random.default_rng(0)
    y = rng.uniform(size=(2, 16, 16))
    x = y + rng.normal(0, 0.1, y.shape)
    mask = rng.uniform(size=y.shape) > 0.4
    for i in range(2):
        inside = mask[i]
        assert masked_mse(x, y, mask)[i] == pytest.approx(((x[i] - y[i])[inside] ** 2).mean())
        expected = peak_signal_noise_ratio(y[i][inside], x[i][inside], data_range=1.0)
        assert masked_psnr(x, y, mask, 1.0)[i] == pytest.approx(expected)
        expected = normalized_mutual_information(x[i][inside], y[i][inside], bins=20)
        assert masked_nmi(x, y, mask, bins=20)[i] == pytest.approx(expected)


def test_perfect_and_constant_guesses():
    truth, mask = phantom(1, 0.35, n=40)
    t, m = truth[None], mask[None]
    assert masked_ssim(t, t, m, 1.0)[0] == pytest.approx(1)
    assert masked_psnr(t, t, m, 1.0)[0] == 100
    assert masked_nmi(t, t, m)[0] == pytest.approx(2)
    assert masked_nmi(np.ones_like(t), np.ones_like(t), m)[0] == 1
    assert ms_ssim(t, t, m, 1.0, scales=2)[0] == pytest.approx(1)


def test_ms_ssim_of_one_scale_is_gaussian_ssim():
    rng = np.random.default_rng(0)
    y = rng.normal(size=(1, 40, 40))
    x = y + rng.normal(0, 0.5, y.shape)
    local = structural_similarity(
        x[0], y[0], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=4.0, full=True
    )[1]
    core = local[5:-5, 5:-5]
    assert ms_ssim(x, y, np.ones_like(x, bool), 4.0, scales=1)[0] == pytest.approx(core.mean(), abs=1e-9)


def test_ms_ssim_refuses_images_too_small_for_its_scales_and_works_at_the_border():
    mask = np.ones((1, 160, 161), bool)
    x = np.random.default_rng(0).normal(size=mask.shape)
    with pytest.raises(EvidenceError, match="allow 4 scales"):
        ms_ssim(x, x, mask, 4.0, scales=5)
    big = np.random.default_rng(0).normal(size=(1, 161, 161))
    assert ms_ssim(big, big, np.ones_like(big, bool), 4.0)[0] == pytest.approx(1)


def test_ms_ssim_orders_degradations():
    truth, mask = phantom(1, 0.5, n=161)
    rng = np.random.default_rng(0)
    guesses = np.stack([truth + rng.normal(0, s, truth.shape) for s in (0.02, 0.1, 0.5)])
    values = ms_ssim(guesses, np.stack([truth] * 3), np.stack([mask] * 3), 1.0)
    assert 1 > values[0] > values[1] > values[2] >= 0


def test_bad_images_are_refused():
    x = np.zeros((2, 20, 20))
    for guess, truth in ((x, x[:1]), (x[0], x[0]), (np.full_like(x, np.nan), x)):
        with pytest.raises(EvidenceError):
            ssim_map(guess, truth, 1.0)
    for win in (6, 21):
        with pytest.raises(EvidenceError, match="window"):
            ssim_map(x, x, 1.0, win=win)
    with pytest.raises(EvidenceError, match="positive"):
        ssim_map(x, x, 0.0)


@pytest.mark.parametrize(
    ("shape", "scales"), [((10, 30), 0), ((11, 99), 1), ((64, 64), 3), ((160, 161), 4), ((161, 161), 5), ((12, 200, 200), 1)]
)
def test_scales_that_fit(shape, scales):
    assert ms_ssim_scales(shape) == scales
    images = np.random.default_rng(0).normal(size=(1, *shape))
    brain = np.ones(images.shape, bool)
    if scales:
        assert ms_ssim(images, images, brain, 4.0, scales=scales)[0] == pytest.approx(1.0)
    if scales < 5:
        with pytest.raises(EvidenceError, match=f"allow {scales} scales"):
            ms_ssim(images, images, brain, 4.0, scales=scales + 1)
