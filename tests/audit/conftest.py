"""Whole audits of toys: a tiny recipe, an installed distribution of toy plugins, and the command line in a process."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from leakaudit.engine.store import RunStore
from leakaudit.plugins.manager import ALLOW_LIST

TOYS = Path(__file__).parent / "toys"
SEED = 1234

__all__ = ["SEED", "Audit", "Machine", "tiny"]


def tiny(name: str, **changes: Any) -> dict[str, Any]:
    """Return a recipe: 10 members as 32x32 slices, a split U-Net of two levels and two image clients."""
    recipe: dict[str, Any] = {
        "version": 1,
        "name": name,
        "seed": SEED,
        "data": {
            "use": "phantom",
            "params": {"patients": 34, "size": 32, "visits": 1, "sites": 2},
            "split": {"members": 10, "validation": 5, "test": 5, "non_members": 6, "auxiliary": 8, "attacked": 8},
        },
        "protocols": [
            {
                "use": "split",
                "params": {
                    "rounds": 2, "cut": 0, "clients": [["flair"], ["t1"]], "network": {"channels": [4, 8]},
                    "training": {"batch_size": 4},
                },
            }
        ],
        "run": {"workers": 2, "device": "cpu"},
    }  # fmt: skip
    return {**recipe, **changes}


def attack(use: str, name: str | None = None, *, defenses: tuple[str, ...] = ("none",), **params: Any) -> dict[str, Any]:
    """Return an attack entry of a recipe."""
    return {"use": use, "name": name or use, "params": params, "only": {"defenses": list(defenses)}}


@dataclass(frozen=True)
class Audit:
    """A finished audit."""

    recipe: Path
    out: Path
    code: int
    output: str

    @property
    def report(self) -> dict[str, Any]:
        return dict(json.loads((self.out / "report.json").read_text()))

    @property
    def cells(self) -> list[dict[str, Any]]:
        """Return what was planned and came to an end, planted controls included, as the run keeps it."""
        kept = json.loads((self.out / "store" / "run.json").read_text())["cells"]
        return [{"key": key, "kind": kind, "label": label} for key, (kind, label) in kept.items()]

    @property
    def store(self) -> RunStore:
        return RunStore(self.out / "store")

    def pairing(self, attack: str, defense: str = "none", protocol: str = "split") -> dict[str, Any]:
        found = [p for p in self.report["pairings"] if (p["attack"], p["defense"], p["protocol"]) == (attack, defense, protocol)]
        assert len(found) == 1, f"{len(found)} pairings of {attack} with {defense}"
        return dict(found[0])

    def baseline(self, defense: str = "none") -> dict[str, Any]:
        return dict(next(b for b in self.report["baselines"] if b["defense"] == defense))

    def folder(self, kind: str, label: str) -> Path:
        """Return the stored files of a cell of the plan."""
        keys = [c["key"] for c in self.cells if (c["kind"], c["label"]) == (kind, label)]
        assert len(keys) == 1, f"{len(keys)} cells {kind} {label!r}; there are {[(c['kind'], c['label']) for c in self.cells]}"
        entry = self.store.get(keys[0])
        assert entry is not None, f"{kind} {label} is not in the store"
        return entry.folder

    def data(self, kind: str, label: str, name: str) -> Any:
        return json.loads((self.folder(kind, label) / name).read_text())


class Machine:
    """A place with the toys installed, where the command line runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.site = root / "site"
        self.install("leakaudit_toys", TOYS / "leakaudit_toys")
        self.allowed = ["leakaudit-toys"]
        self.scratch = root / "scratch"
        self.scratch.mkdir()

    def install(self, package: str, source: Path) -> None:
        """Install a package with `plugin.py` as a distribution."""
        shutil.copytree(source, self.site / package, ignore=shutil.ignore_patterns("__pycache__"))
        info = self.site / f"{package}-1.0.dist-info"
        info.mkdir()
        name = package.replace("_", "-")
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[leakaudit]\n{name} = {package}.plugin\n")
        files = [p.relative_to(self.site) for p in (self.site / package).rglob("*.py")]
        (info / "RECORD").write_text("".join(f"{p},,\n" for p in files))

    @property
    def environment(self) -> dict[str, str]:
        path = os.pathsep.join(filter(None, [str(self.site), os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, ALLOW_LIST: ",".join(self.allowed), "TMPDIR": str(self.scratch)}

    def write(self, recipe: dict[str, Any]) -> Path:
        path = self.root / f"{recipe['name']}.yaml"
        path.write_text(yaml.safe_dump(recipe, sort_keys=False))
        return path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "leakaudit.cli", *map(str, arguments)]
        return subprocess.Popen(
            command, env=self.environment, cwd=self.root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def call(self, *arguments: str | Path) -> tuple[int, str]:
        process = self.start(*arguments)
        output, _ = process.communicate(timeout=280)
        return process.returncode, output

    def run(self, recipe: Path, out: Path, *more: str) -> Audit:
        """Run an audit to its end."""
        code, output = self.call("run", recipe, "--out", out, "--fail-on", "never", *more)
        assert code == 0, output
        return Audit(recipe, out, code, output)

    def cells(self, recipe: Path, *more: str) -> list[dict[str, Any]]:
        """Return what would be computed, without computing it."""
        process = subprocess.run(
            [sys.executable, "-m", "leakaudit.cli", "plan", str(recipe), "--json", *more], env=self.environment, cwd=self.root,
            stdout=subprocess.PIPE, text=True, check=True, timeout=60,
        )  # fmt: skip
        return list(json.loads(process.stdout)["cells"])

    def wait_for(self, process: subprocess.Popen[str], reached: Callable[[], bool], timeout: float = 120) -> bool:
        """Wait until something is so; False when the process ended before."""
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if reached():
                return True
            if process.poll() is not None:
                return False
            time.sleep(0.01)
        raise AssertionError("nothing happened")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("machine"))
