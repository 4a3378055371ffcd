"""Speed of the inversion attacks: targets a minute as the batch grows, and time over a plain loop of the same arithmetic.

    python plugins/leakaudit-inversion/benchmarks/run.py [--quick] [--device cuda]

Times are processor seconds on a CPU (other processes count little) and wall seconds with the device synchronized on a GPU. They
are of this machine and moment; ratios are what to compare. Loops take turns, and a ratio is the median over the turns.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from leakaudit_inversion.decoder import Decoder
from leakaudit_inversion.losses import reconstruction_loss
from leakaudit_inversion.params import ModelInversionParams
from leakaudit_inversion.pooling import Pooling
from leakaudit_inversion.prior import Prior, smoothed, total_variation
from leakaudit_inversion.search import Search, goals_of, search
from leakaudit_inversion.source import Auxiliary, Source
from leakaudit_inversion.span import Span
from leakaudit_inversion.training import train_decoders
from torch import Tensor

from leakaudit.defenses import Chain
from leakaudit.facts import CohortFacts
from leakaudit.models import load_task
from leakaudit.protocols.params import SplitParams
from leakaudit.protocols.split import Split
from leakaudit.wire import Replica, Seat, Secret

LEVEL, RATE, TV = "level1", 0.2, 0.01


Work = Callable[[], object]


def seconds(work: Work, device: torch.device) -> float:
    """Return the seconds of one call."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = clock()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return clock() - start


def compared(ours: Work, plain: Work, device: torch.device, turns: int) -> tuple[float, float]:
    """Return the median seconds of our loop and the median of its ratio to the plain one; the first turn is not counted."""
    pairs = [(seconds(ours, device), seconds(plain, device)) for _ in range(turns + 1)][1:]
    return statistics.median(a for a, _ in pairs), statistics.median(a / b for a, b in pairs)


def split_client(side: int, device: torch.device) -> Replica:
    """Return a replica of one client of a split U-Net of 16, 32 and 64 channels, cut at level 2."""
    facts = CohortFacts(modalities=("flair", "t1"), shape=(side, side), members=4, auxiliary=4, sites=("a",), records=4)
    params = SplitParams.model_validate({"network": {"channels": [16, 32, 64]}, "cut": 2})
    protocol = Split(params, facts)
    seat = Seat(protocol.facts.seat("client-0"), Secret.from_seed(0), device=device)
    torch.manual_seed(0)
    replica = protocol.replica(seat.facts, load_task(protocol.task()), None, Chain([], seat))
    assert replica.module is not None
    replica.module.to(device).requires_grad_(False)
    return replica


def plain_search(replica: Replica, sent: Tensor, start: Tensor, steps: int) -> Tensor:
    """The same search written down without the package's classes: forward, errors, gradient, Adam."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([x], lr=RATE, betas=(0.7, 0.9))
    scale = sent.flatten(1).var(dim=1, correction=0)
    for step in range(steps):
        error = (replica.send(x=x)[LEVEL] - sent).square().flatten(1).mean(dim=1) / scale
        spread = (x.flatten(2).var(dim=2, correction=0) + 1e-3).sqrt()
        loss = error + TV * (total_variation(x) / spread).mean(dim=1)
        (gradient,) = torch.autograd.grad(loss.sum() * x[0].numel(), x)
        x.grad = smoothed(gradient, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
        optimizer.step()
    return x.detach()


def searches(batches: Sequence[int], side: int, steps: int, device: torch.device, turns: int) -> None:
    """Print targets a minute of likelihood inversion by batch, and its time over that of the plain search."""
    replica = split_client(side, device)
    print(f"likelihood-inversion, {LEVEL}, {side} x {side}, {steps} steps timed, 200 assumed")
    print("  batch   targets/min   cost of a target, first batch = 1   time / plain loop")
    first = math.nan
    for count in batches:
        truth = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(0)).to(device)
        with torch.no_grad():
            sent = replica.send(x=truth)[LEVEL]
        goals = goals_of([{LEVEL: sent}], torch.ones(1, count, device=device), (LEVEL,), Pooling(), {})
        prior, start = Prior(tv=torch.full((count,), TV, device=device)), 0.1 * torch.randn_like(truth)
        how = Search(iterations=steps, learning_rate=RATE, smoothing=1.0)

        def ours(goals: object = goals, start: Tensor = start, prior: Prior = prior, how: Search = how) -> Tensor:
            return search([lambda x: replica.send(x=x)], goals, start, prior, how)[0]  # type: ignore[arg-type]

        def plain(sent: Tensor = sent, start: Tensor = start) -> Tensor:
            return plain_search(replica, sent, start, steps)

        mine, ratio = compared(ours, plain, device, turns)
        each = mine / count
        first = each if math.isnan(first) else first
        print(f"  {count:5d} {60 / (each * 200 / steps):13.1f} {each / first:35.2f} {ratio:19.3f}", flush=True)


def decoders(side: int, steps: int, device: torch.device, turns: int) -> None:
    """Print the time of training a decoder over that of a plain loop with the same decoder, batches and loss."""
    replica, generator = split_client(side, device), torch.Generator().manual_seed(0)
    images = torch.randn(64, 1, side, side, generator=generator)
    samples, rows = Auxiliary(images, torch.ones_like(images)), torch.arange(64)
    params = ModelInversionParams(iterations=steps, levels=(LEVEL,), validation=0)

    def ours() -> object:
        draw = torch.Generator().manual_seed(0)
        source = Source([Span(replica)], samples, randomized=False, device=device, generator=draw)
        return train_decoders(params, source, rows, rows[:0], draw)

    def plain() -> object:
        with torch.no_grad():
            sent = replica.send(x=images.to(device))[LEVEL]
        truth = images.to(device)
        decoder = Decoder({LEVEL: sent[:32].cpu()}, (side, side), 1, width=params.width, blocks=params.blocks).to(device)
        optimizer = torch.optim.Adam(decoder.parameters(), lr=params.learning_rate)
        brain = torch.ones_like(truth[:8])
        for step in range(steps):
            batch = torch.arange(8) + 8 * (step % 8)
            optimizer.param_groups[0]["lr"] = params.learning_rate * 0.5 * (1 + math.cos(math.pi * step / steps))
            optimizer.zero_grad()
            reconstruction_loss(decoder({LEVEL: sent[batch]}), truth[batch], brain, params.loss).backward()
            optimizer.step()
        return decoder

    mine, ratio = compared(ours, plain, device, turns)
    print(f"model-inversion, {LEVEL}, {side} x {side}, batch 8: {steps / mine:.1f} steps/s, time / plain loop {ratio:.3f}")


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small images and few steps: less than two minutes")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 16, 64])
    given = parser.parse_args()
    side, steps, turns = (32, 10, 3) if given.quick else (64, 20, 7)
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"torch {torch.__version__}, {name}")
    searches(given.batches, side, steps, device, turns)
    decoders(side, 15 * steps, device, turns)


if __name__ == "__main__":
    main()
