"""A whole audit of a tiny U-shaped split: masks leak past a defense of the images, and both controls hold."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

RECIPE: dict[str, Any] = {
    "version": 1,
    "name": "masks",
    "seed": 1234,
    "data": {
        "use": "phantom",
        "params": {"patients": 34, "size": 32, "visits": 1, "sites": 2, "slices": 1},
        "split": {"members": 12, "validation": 5, "test": 3, "non_members": 4, "auxiliary": 8, "attacked": 12},
    },
    "protocols": [
        {
            "use": "split",
            "params": {
                "labels": "u-shaped", "rounds": 2, "cut": 0, "clients": [["flair"], ["t1"]], "network": {"channels": [4, 8]},
                "training": {"batch_size": 4},
            },
        }
    ],
    "defenses": [{"use": "gaussian-noise", "params": {"sigma": 1.0}}],
    "attacks": [{"use": "mask-inversion"}],
    "run": {"workers": 1, "device": "cpu"},
}  # fmt: skip


def test_masks_leak_past_noise_on_activations(tmp_path: Path) -> None:
    recipe, out = tmp_path / "masks.yaml", tmp_path / "out"
    recipe.write_text(json.dumps(RECIPE))  # JSON is YAML
    done = subprocess.run(
        [sys.executable, "-m", "leakaudit.cli", "run", str(recipe), "--out", str(out), "--fail-on", "never"],
        env={**os.environ, "TMPDIR": str(tmp_path)}, cwd=tmp_path, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((out / "report.json").read_text())
    pairings = {p["defense"]: p for p in report["pairings"]}
    assert pairings["gaussian-noise"]["status"] == "FAIL"
    assert pairings["gaussian-noise"]["adaptive"] is True
    assert pairings["gaussian-noise"]["family"] == "label"
    for pairing in pairings.values():
        endpoints = {e["name"]: e for e in pairing["endpoints"]}
        whole = endpoints["labels/features mask-WT"]
        assert whole["raw"]["dice"]["value"] == 1.0
        assert whole["leakage"]["value"] == 1.0
        assert {kind: whole["controls"][kind]["passed"] for kind in ("positive", "negative")} == {
            "positive": True,
            "negative": True,
        }
        volume = endpoints["labels/features/volume tumor-volume"]
        assert volume["raw"]["error_factor"]["value"] < volume["raw"]["error_factor_of_chance"]["value"]
        assert all(e["controls"]["negative"]["passed"] for e in endpoints.values())
