"""Against DLG, iDLG, Inverting Gradients, Dimitrov et al. and Robbing the Fed, on images that ship with a dependency.

`pytest -m slow -s plugins/leakaudit-gradients/tests/test_published.py` prints the figures of VALIDATION.md.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from leakaudit_gradients.localrun import LocalRun
from torch.func import vmap

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
Row = Callable[[str], Any]


@pytest.fixture(name="scripts", scope="module")
def _scripts() -> Iterator[Callable[[str], Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        yield importlib.import_module


@pytest.fixture(name="row", scope="module")
def _row(scripts: Callable[[str], Any]) -> Row:
    """Give the rows of the benchmark, each computed once."""
    published = scripts("published")

    @cache
    def computed(name: str) -> Any:
        found = published.row(name)
        print(f"\n{name}: {found}", end="", flush=True)
        return found

    return computed


@pytest.mark.parametrize("build", ["lenet", "convnet"])
def test_the_label_of_every_single_photograph_is_read_from_its_gradient(scripts: Callable[[str], Any], build: str) -> None:
    data, search = scripts("published_data"), scripts("published_search")
    torch.manual_seed(0)
    network = getattr(data, build)()
    x, labels = data.photographs(8, 0, attacked=True)
    updates = vmap(search.gradient_of(network))(data.Scale.of(x).forward(x)[:, None], search.one_hot(labels)[:, None])
    assert torch.equal(search.labels_told(updates), labels)


def test_the_simulated_run_is_that_of_sgd(scripts: Callable[[str], Any]) -> None:
    data, search = scripts("published_data"), scripts("published_search")
    torch.manual_seed(0)
    network, run = data.digit_net(), LocalRun.of(4, 2, 2)
    x, labels = data.digits(8, 0)
    update = search.local_run(network, run, 0.5)(x, search.one_hot(labels))
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.5)
    for rows in torch.arange(8).split(2):
        optimizer.zero_grad()
        F.cross_entropy(network(x[rows]), labels[rows]).backward()
        optimizer.step()
    assert all(torch.allclose(update[name], p.detach() - before[name], atol=1e-6) for name, p in network.named_parameters())


def test_every_pass_of_a_site_has_the_same_labels_at_every_step_and_other_batches(scripts: Callable[[str], Any]) -> None:
    made = scripts("published_runs").sites()
    assert made.x.shape == (4, 4, 1, 12, 12)
    assert (made.labels[:, 0::2] == made.labels[:, :1]).all()
    assert (made.labels[:, 1::2] == made.labels[:, 1:2]).all()
    assert (made.labels[:, 0] != made.labels[:, 1]).all()
    assert made.run.copies == 3


def test_scores_are_peak_signal_to_noise_ratios(scripts: Callable[[str], Any]) -> None:
    search = scripts("published_search")
    truth = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    table = search.psnr_table(truth + 0.1, truth)
    assert table.diagonal() == pytest.approx([20.0, 20.0], abs=1e-4)
    found = search.Found(psnr=(10.0, 30.0), loss=(0.5,))
    assert (found.mean, found.share(20)) == (20.0, 0.5)


def test_the_command_prints_the_rows_that_are_asked_for(scripts: Callable[[str], Any], capsys: pytest.CaptureFixture[str]) -> None:
    published = scripts("published")
    assert published.main(["none, the mean ph", "imprint"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["none, the mean photograph", "imprint, 64 images, 128 bins"]
    # What is learned from no gradient: figures against which all others are read.
    assert " 14.10 dB (10.52 to 17.25), n = 8" in lines[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dlg_recovers_photographs_where_the_network_is_smooth(row: Row) -> None:
    # Published for a ConvNet and CIFAR-10: 23.41 dB; the gate is 20.
    found, chance = row("dlg, LeNet, sigmoid"), row("none, the mean photograph")
    assert found.mean > 20
    assert found.share(20) >= 0.5
    assert (np.array(found.psnr) > np.array(chance.psnr)).all()
    assert found.mean > row("dlg, LeNet, sigmoid, 300").mean + 5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_dlg_finds_nothing_through_kinks(row: Row) -> None:
    smooth, kinked = row("dlg, LeNet, sigmoid, 300"), row("dlg, LeNet, ReLU, 300")
    assert smooth.mean > kinked.mean + 2
    assert min(kinked.loss) > 10 * max(smooth.loss)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_several_images_in_a_batch_hide_each_other(row: Row) -> None:
    assert row("dlg, LeNet, sigmoid").mean > row("dlg, LeNet, sigmoid, batch of 4").mean + 8


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_on_a_trained_network_the_cosine_beats_the_euclidean_distance(row: Row) -> None:
    cosine = row("cosine, LeNet, ReLU, trained, 2400")
    assert cosine.mean > row("euclidean, LeNet, ReLU, trained, 2400").mean + 1
    assert cosine.mean > row("dlg, LeNet, ReLU, trained, 1200").mean + 1
    assert row("cosine, LeNet, ReLU, plain weights, 2400").mean > cosine.mean + 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_through_kinks_signed_adam_finds_more_than_a_line_search_with_either_distance(row: Row) -> None:
    search = row("dlg, LeNet, ReLU, plain weights, 1200")
    for distance in ("cosine", "euclidean"):
        assert row(f"{distance}, LeNet, ReLU, plain weights, 2400").mean > search.mean + 1.5


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_inverting_gradients_reaches_the_published_loss_long_before_the_image(row: Row) -> None:
    # Published: .0008 after 4,000 iterations; the gate is .002.
    long, short = row("cosine, ConvNet, 4000"), row("cosine, ConvNet, 600")
    assert max(short.loss) <= 0.002
    assert max(long.loss) < max(short.loss)
    assert long.mean > short.mean + 0.5
    # Eight convolutions against three, fewer iterations for these.
    assert np.mean(row("cosine, LeNet, ReLU, plain weights, 2400").psnr[:4]) > long.mean + 0.5


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_who_simulates_the_passes_finds_more_than_who_takes_the_update_for_a_gradient(row: Row) -> None:
    # Published for FEMNIST, 10 passes over 10 batches: more than 45 % of images against less than 10 %.
    tied, free, single = (row(f"passes, {how}") for how in ("simulated, invariance 1", "simulated, invariance 0", "one gradient"))
    assert tied.mean > free.mean + 1
    assert tied.share(20) > free.share(20)
    assert free.mean > single.mean + 4
    assert tied.mean > row("none, the mean digit").mean + 2


@pytest.mark.slow
def test_imprint_returns_every_photograph_that_is_alone_in_its_bin(row: Row) -> None:
    # Published: 70.94 dB on average over 64 ImageNet images with 128 bins.
    found = row("imprint, 64 images, 128 bins")
    assert float(found.alone.float().mean()) > 0.5
    assert float(found.psnr[found.alone].min()) > 60
    assert float(found.psnr.mean()) > 60
