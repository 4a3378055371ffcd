"""Cell `score`: evidence against the truth. Metrics may change without attacking again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leakaudit.attacks.contents import load_cohort
from leakaudit.attacks.evidence import Evidence, EvidenceError, Images, Masks, Scores, load_evidence
from leakaudit.engine.canaries import load_gradients
from leakaudit.engine.cells.cohort import Patients, load_patients
from leakaudit.engine.endpoints import Ground, rows_of, without_leak
from leakaudit.engine.image_endpoints import Picture, score_images
from leakaudit.engine.jobprocess import Context
from leakaudit.engine.mask_endpoints import score_masks, score_values
from leakaudit.engine.membership_endpoints import Candidates, score_membership
from leakaudit.engine.update_endpoints import score_updates
from leakaudit.engine.views import REAL, SHUFFLED
from leakaudit.threats import Canaries, ThreatModel

__all__ = ["run"]


def run(spec: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Score the real and the shuffled evidence of an attack cell.

    Raises:
        EvidenceError: Evidence is missing, or does not fit.
    """
    entry = context.store.get(spec["attack_key"])
    if entry is None:
        raise LookupError("the attack's evidence is not in the run store")
    patients = load_patients(context.store, spec["cohort"])
    split = patients.split
    attack = json.loads((entry.folder / "attack.json").read_text())
    ground = Ground(
        members=patients.cohort.of_patients(split.members), attacked=tuple(split.attacked),
        auxiliary=patients.cohort.of_patients(split.auxiliary),
        validation=patients.cohort.of_patients(split.validation), gallery=patients.gallery,
        owned=spec["threat"]["auxiliary"], held=tuple(spec["held"]),
        masks=ThreatModel.from_json(spec["threat"]).told_masks,
    )  # fmt: skip
    candidates = _candidates(spec, context, patients, attack["coins"])
    result: dict[str, Any] = {"evidence": []}
    controls = {piece.name: piece for piece in _pieces(entry.folder, SHUFFLED)}
    pieces = _pieces(entry.folder, REAL)
    for piece in pieces:
        if piece.seat is not None and piece.seat in spec["played"]:
            continue  # what an adversary holds anyway is no leak
        _complete(piece, pieces, attack)
        scored, pictures = _score(piece, attack, ground, candidates, shown=True)
        shuffled = None
        if controls:
            if piece.name not in controls:
                raise EvidenceError(f"there is no evidence {piece.name!r} from the shuffled messages")
            shuffled, _ = _score(controls[piece.name], attack, ground, candidates, shown=False)
        missing = attack["truth"]["missing"]
        scored = [without_leak(e, missing, ground.members) for e in scored]
        shuffled = None if shuffled is None else [without_leak(e, missing, ground.members) for e in shuffled]
        found = {"name": piece.name, "channel": piece.channel, "seat": piece.seat, "level": piece.level, "round": piece.round}
        shown = [_picture(p) for p in pictures]
        result["evidence"].append({**found, "endpoints": scored, "shuffled": shuffled, "pictures": shown})
    with context.store.write(context.job.key, {"kind": "score", "sensitive": True}) as folder:
        (folder / "score.json").write_text(json.dumps(result))
    return {}


def _candidates(spec: Mapping[str, Any], context: Context, patients: Patients, coins: Mapping[str, bool]) -> Candidates:
    """Return those whose membership is asked: canaries where the attack planted some, else patients."""
    if spec.get("prepare"):
        planted = context.store.get(spec["prepare"])
        canary = None if spec.get("canaries") is None else Canaries(**spec["canaries"])
        if planted is not None and (planted.folder / "canaries").exists():
            return Candidates(load_cohort(planted.folder / "canaries"), coins, canary=canary)
        if planted is not None and (gradients := load_gradients(planted.folder)):
            return Candidates(None, coins, sites={name: seat for name, (seat, _) in gradients.items()}, canary=canary)
    return Candidates(patients.cohort.of_patients(list(coins)), coins)


def _complete(piece: Evidence, pieces: Sequence[Evidence], attack: Mapping[str, Any]) -> None:
    """Check that every target of the evidence's kind has a row: a patient is never dropped.

    An update belongs to one round, so evidence about updates that names its round answers together with its like of the other
    rounds; that each piece knows every attacked patient is checked where it is scored.
    """
    wanted = "candidate" if isinstance(piece, Scores) else "message" if _about_updates(piece, attack) else "sample"
    expected = {t["token"] for t in attack["targets"] if t["kind"] == wanted}
    if not expected:
        raise EvidenceError(f"evidence {piece.name!r}: the view has no targets that {type(piece).__name__} can be about")
    by_round = wanted == "message" and piece.round is not None
    alike = [p for p in pieces if by_round and type(p) is type(piece) and p.round is not None and p.seat == piece.seat]
    missing = expected - {token for p in alike or [piece] for token in p.about}
    if missing:
        raise EvidenceError(f"evidence {piece.name!r} says nothing about {len(missing)} of {len(expected)} targets")


def _pieces(folder: Path, name: str) -> list[Evidence]:
    """Return the evidence from one message set; none where one patient alone could not be shuffled."""
    return load_evidence(folder / "out" / name) if (folder / "out" / name).exists() else []


def _picture(picture: Picture) -> dict[str, Any]:
    arrays = {k: np.round(getattr(picture, k), 3).tolist() for k in ("original", "reconstruction", "chance")}
    return {"patient": picture.patient, "score": picture.score, **arrays}


def _score(
    piece: Evidence, attack: Mapping[str, Any], ground: Ground, candidates: Candidates, *, shown: bool
) -> tuple[list[dict[str, Any]], list[Picture]]:
    """Return the endpoints of one piece; of shuffled evidence (not `shown`) nothing but what its control needs."""
    if isinstance(piece, Scores):
        return [score_membership(piece, attack["truth"]["candidates"], candidates, shown=shown)], []
    if _about_updates(piece, attack):
        endpoints, pictures = score_updates(piece, attack["truth"]["behind"], ground, shown=shown)
        return [e.to_json() for e in endpoints], pictures
    rows = rows_of(piece.about, attack["truth"]["rows"], piece.name)
    if isinstance(piece, Images):
        endpoints, pictures = score_images(piece, rows, ground, shown=shown)
        return [e.to_json() for e in endpoints], pictures
    if isinstance(piece, Masks):
        return [e.to_json() for e in score_masks(piece, rows, ground, shown=shown)], []
    return [e.to_json() for e in score_values(piece, rows, ground, shown=shown)], []


def _about_updates(piece: Evidence, attack: Mapping[str, Any]) -> bool:
    kinds = {t["token"]: t["kind"] for t in attack["targets"]}
    return any(kinds.get(token) == "message" for token in piece.about)
