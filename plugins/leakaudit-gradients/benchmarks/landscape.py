"""The landscape: which networks' gradients can be inverted, with intervals over patients and initializations.

    python plugins/leakaudit-gradients/benchmarks/landscape.py --out found.json
    python plugins/leakaudit-gradients/benchmarks/landscape.py --maps --patients 24 --own 400 --out found.json
    python plugins/leakaudit-gradients/benchmarks/landscape.py --data msd-brain=FOLDER --data nifti-folder=FOLDER --out found.json

Gradients of one image each, mean cross-entropy. All patients of a variant are inverted in one batch. Every search is written down
as soon as it ends, and one that is there already is not run again: with `--limit SECONDS` the work can be done in pieces. Raw
numbers go to `--out` (JSON), the table to the same name with the ending csv, and to the screen.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from landscape_data import READERS, Scene, phantoms, real, scores
from landscape_map import MAPS, learned
from landscape_search import inverted
from landscape_variants import VARIANTS

from leakaudit.scoring.intervals import difference_interval, leakage_interval
from leakaudit.scoring.rates import clopper_pearson

__all__ = ["COLUMNS", "main", "row", "table"]

DEFAULT = tuple(
    name for name, v in VARIANTS.items() if v.network != "basic" and v.preset == "smooth-unet" and (v.epochs or not v.learns)
)
"""Rows unless others are asked for. Adam takes thousands of evaluations, `basic` is for maps, priors are a table apart."""

CONTROL = 0.3
"""Lower bound of leakage that a positive control has to reach: three times the limit of .10."""

COLUMNS = (
    "data", "size", "attack", "variant", "patients", "seeds", "iterations", "ssim", "psnr", "chance", "chance_psnr",
    "leakage", "low", "high", "patients_low", "patients_high", "seed_sd", "worst", "control", "rank1", "rank1_low", "rank1_high",
    "blind", "rank1_truth", "exchanged", "dice", "above", "above_low", "above_high", "rank1_above", "rank1_above_low",
    "rank1_above_high", "seconds",
)  # fmt: skip
"""Columns of the table. `low`, `high`: of leakage over patients and seeds; `patients_*`: the same of these networks alone;
`rank1_truth`: how many patients the true image itself finds; `exchanged`: leakage about the next patient (of maps: from the next
patient's gradient); `above`, `rank1_above`: SSIM and rank 1 over what masks alone reach. `chance` and `blind` (its rank 1) know the
masks where the adversary does."""

Record = dict[str, Any]

_HEAD = (
    "| data, attack | variant | SSIM / PSNR | chance | leakage | sd of seeds | control | rank 1 | of the truth | blind "
    "| exchanged | Dice | over masks | rank 1 over masks | time |\n" + "|---" * 15 + "|"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is missing, write it down, and print the table."""
    args = _asked(arguments)
    torch.set_num_threads(1)
    found: list[Record] = json.loads(args.out.read_text()) if args.out.exists() else []
    done, began = {_key(record) for record in found}, time.monotonic()
    for key, work in _pieces(args):
        if key in done:
            continue
        if args.limit and time.monotonic() - began > args.limit:
            print("time is up: run the same command again for the rest")
            break
        found.append(work())
        args.out.write_text(json.dumps(found))
    rows = table(found)
    with open(args.out.with_suffix(".csv"), "w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    print(_HEAD)
    for one in rows:
        print(_line(one))
    return 0


def _asked(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Which networks' gradients can be inverted.")
    parser.add_argument("--size", type=int, default=32, help="voxels along each side")
    parser.add_argument("--patients", type=int, default=8, help="attacked phantoms; of real sets all patients are attacked")
    parser.add_argument("--seeds", type=int, default=3, help="initializations of every network")
    parser.add_argument("--iterations", type=int, default=200, help="evaluations for each patient")
    parser.add_argument("--variants", nargs="*", choices=list(VARIANTS), help="rows; default: all")
    parser.add_argument("--own", type=int, default=96, help="auxiliary phantoms")
    parser.add_argument("--maps", action="store_true", help="learn maps from gradients to images instead of matching gradients")
    parser.add_argument(
        "--data", action="append", default=[], metavar="READER=FOLDER", help=f"real patients; readers: {', '.join(READERS)}"
    )
    parser.add_argument("--limit", type=float, default=0, help="seconds after which nothing new is begun")
    parser.add_argument("--out", type=Path, required=True, help="JSON file; what is there is kept")
    args = parser.parse_args(arguments)
    args.variants = args.variants or (MAPS if args.maps else [n for n in DEFAULT if not (args.data and VARIANTS[n].learns)])
    if args.data and (args.maps or any(VARIANTS[name].learns for name in args.variants)):
        parser.error("there are no real patients but the attacked ones to learn from: no --maps, no trained network, no prior")
    return args


def _pieces(args: argparse.Namespace) -> Iterator[tuple[tuple[Any, ...], Callable[[], Record]]]:
    """Yield every search: what it is, and how to run it."""
    scene = real(args.size, dict(text.split("=", 1) for text in args.data)) if args.data else None
    scene = scene or phantoms(args.size, args.patients, args.own)
    base = {"data": scene.data, "size": args.size, "patients": len(scene.victims)}
    if args.maps:
        blind: Record = {**base, "attack": "mask", "variant": "any", "seed": 0, "iterations": args.own}
        yield _key(blind), lambda: {**blind, **_scored(scene, lambda: {"images": scene.told})}
    for name, seed in product(args.variants, range(args.seeds)):
        about = {**base, "attack": "map" if args.maps else "matching", "variant": name, "seed": seed}
        about["iterations"] = args.own if args.maps else args.iterations
        yield _key(about), lambda about=about: {**about, **_run(scene, about)}  # type: ignore[misc]


def _run(scene: Scene, about: Mapping[str, Any]) -> Record:
    variant, seed = VARIANTS[about["variant"]], about["seed"]
    if about["attack"] == "map":

        def work() -> Record:
            images, exchanged = learned(variant, scene, seed)
            return {"images": images, "control": scores(scene, exchanged)["ssim"]}
    else:

        def work() -> Record:
            result = inverted(variant, scene, seed, about["iterations"])
            return {"images": result.images, "dice": result.dice, "loss": result.loss, "parameters": result.parameters}

    return _scored(scene, work, known=about["attack"] == "matching" and variant.known)


def _scored(scene: Scene, work: Callable[[], Record], *, known: bool = False) -> Record:
    began = time.process_time()
    result = work()
    blind, truth = scores(scene, scene.told if known else scene.chance), scores(scene, scene.victims.images)
    more: Record = {"chance": blind["ssim"], "chance_psnr": blind["psnr"], "rank1_truth": truth["rank1"]}
    more["blind"] = float(np.mean(blind["rank1"])) if known else 1 / len(set(scene.gallery.patients))
    return {**scores(scene, result.pop("images")), **more, **result, "seconds": time.process_time() - began}


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(record[k] for k in ("data", "size", "attack", "variant", "patients", "iterations", "seed"))


def table(found: Sequence[Record]) -> list[Record]:
    """Return one row for each group of searches that differ in the seed alone, in the order in which they were begun."""
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in found:
        groups.setdefault(_key(record)[:-1], []).append(record)
    masks = {key[:2] + key[4:]: group[0] for key, group in groups.items() if key[2] == "mask"}
    return [row(group, masks.get(key[:2] + key[4:])) for key, group in groups.items()]


def row(group: Sequence[Record], mask: Record | None = None) -> Record:
    """Return a row of the table.

    Args:
        group: Records of one variant, one for each seed.
        mask: The map from masks alone of the same patients, where a map is held against it.
    """
    score, chance, rank1 = (np.array([record[k] for record in group]) for k in ("ssim", "chance", "rank1"))
    gain, room = score - chance, 1 - chance
    both, one = leakage_interval(gain, room, seed=0), leakage_interval(gain.mean(axis=0), room.mean(axis=0), seed=0)
    who = clopper_pearson(float(rank1.mean(axis=0).sum()), rank1.shape[1])
    other = np.array([record.get("control", record["exchanged"]) for record in group]) - chance
    first, share = group[0], float(room.mean())
    dice = [record["dice"] for record in group if record.get("dice")]
    values: Record = {
        **{k: first[k] for k in ("data", "size", "attack", "variant", "patients", "iterations", "blind")},
        "seeds": len(group), "ssim": float(score.mean()), "psnr": _mean(group, "psnr"), "chance": float(chance.mean()),
        "chance_psnr": _mean(group, "chance_psnr"),
        "leakage": float(gain.mean()) / share, "low": both.low, "high": both.high,
        "patients_low": one.low, "patients_high": one.high,
        "seed_sd": float(gain.mean(axis=1).std(ddof=1)) / share if len(group) > 1 else None,
        "worst": float(gain.mean(axis=0).max()) / share, "control": "yes" if both.low >= CONTROL else "no",
        "rank1": float(rank1.mean()), "rank1_low": who.low, "rank1_high": who.high,
        "rank1_truth": _mean(group, "rank1_truth"),
        "exchanged": float(other.mean()) / share, "dice": float(np.mean(dice)) if dice else None,
        **{f"{name}{end}": None for name in ("above", "rank1_above") for end in ("", "_low", "_high")},
        "seconds": sum(record["seconds"] for record in group),
    }  # fmt: skip
    if mask is not None and first["attack"] == "map":
        for name, found, base in (("above", score, mask["ssim"]), ("rank1_above", rank1, mask["rank1"])):
            alone = np.broadcast_to(np.array(base), found.shape)
            interval = difference_interval(found, alone, level=0.95, seed=0)
            values |= {name: float((found - alone).mean()), f"{name}_low": interval.low, f"{name}_high": interval.high}
    return values


def _mean(group: Sequence[Record], name: str) -> float:
    return float(np.mean([record[name] for record in group]))


def _line(values: Record) -> str:
    """Return a row as a line of a Markdown table."""

    def short(name: str, digits: int = 3) -> str:
        value = values[name]
        return "" if value is None else f"{value:.{digits}f}".replace("0.", ".", 1)

    def between(name: str) -> str:
        return f"{short(name)} ({short(f'{name}_low')} to {short(f'{name}_high')})" if values[name] is not None else ""

    cells = [
        f"{values['data']} {values['size']} {values['attack']}", values["variant"], f"{short('ssim')} / {values['psnr']:.1f}",
        f"{short('chance')} / {values['chance_psnr']:.1f}",
        f"{short('leakage')} ({short('low')} to {short('high')})", short("seed_sd"), values["control"],
        between("rank1"), short("rank1_truth"), short("blind"), short("exchanged"), short("dice"), between("above"),
        between("rank1_above"),
        f"{values['seconds']:.0f} s",
    ]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    sys.exit(main())
