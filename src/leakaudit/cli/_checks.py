"""What `doctor` looks at. Every check answers; none raises."""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

__all__ = ["CheckResult", "examine", "versions"]

MIN_FREE_GB = 5.0
"""Below this a run with recordings may fill the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """What one check found: `error` would stop a run, `warning` would not."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str


def versions() -> dict[str, str]:
    """Return the versions of leakaudit, its plugin contract, Python and PyTorch, from metadata alone."""
    from leakaudit import __version__
    from leakaudit.plugins.descriptors import API_VERSION

    return {
        "leakaudit": __version__,
        "plugin-contract": API_VERSION,
        "python": platform.python_version(),
        "torch": _installed("torch") or "not installed",
    }


def examine(out: Path) -> list[CheckResult]:
    """Run every check.

    Args:
        out: Folder in which runs would be written.
    """
    checks: tuple[Callable[[], Iterator[CheckResult]], ...] = (
        _python,
        _dependencies,
        _accelerator,
        _plugins,
        lambda: _folder(out),
    )
    results: list[CheckResult] = []
    for check in checks:
        try:
            results.extend(check())
        except Exception as error:  # noqa: BLE001 - a check that fails is itself the finding
            name = getattr(check, "__name__", "check").strip("_<>")
            results.append(CheckResult(name=name, status="error", detail=f"{type(error).__name__}: {error}"))
    return results


def _python() -> Iterator[CheckResult]:
    fine = sys.version_info >= (3, 11)
    detail = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    yield CheckResult(name="python", status="ok" if fine else "error", detail=detail)


def _dependencies() -> Iterator[CheckResult]:
    """Compare installed versions with the floors that leakaudit states."""
    for requirement in requires("leakaudit") or ():
        found = re.match(r"([A-Za-z0-9._-]+)\s*(?:>=\s*([\d.]+))?", requirement)
        if not found or ";" in requirement:
            continue
        name, floor = found[1], found[2] or "0"
        installed = _installed(name)
        if installed is None:
            yield CheckResult(name=name, status="error", detail=f"not installed, needs {floor} or newer")
        else:
            fine = _numbers(installed) >= _numbers(floor)
            detail = f"{installed} (needs {floor} or newer)"
            yield CheckResult(name=name, status="ok" if fine else "error", detail=detail)


def _accelerator() -> Iterator[CheckResult]:
    import torch

    if not torch.cuda.is_available():
        yield CheckResult(name="accelerator", status="ok", detail="none; device auto means cpu")
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        detail = f"{torch.cuda.get_device_name(index)}, {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        yield CheckResult(name=f"cuda:{index}", status="ok", detail=detail)


def _plugins() -> Iterator[CheckResult]:
    from leakaudit.plugins.manager import get_manager

    manager = get_manager()
    yield CheckResult(name="plugins", status="ok", detail=f"{len(manager.plugins())} usable")
    for broken in manager.broken:
        yield CheckResult(name="plugins", status="warning", detail=broken.describe())


def _folder(out: Path) -> Iterator[CheckResult]:
    """Look at the folder of runs, or the nearest one above it that exists."""
    there = out.absolute()
    while not there.is_dir():
        there = there.parent
    writable = os.access(there, os.W_OK)
    yield CheckResult(
        name="folder", status="ok" if writable else "error", detail=f"{there} is {'' if writable else 'not '}writable"
    )
    free = shutil.disk_usage(there).free / 1e9
    yield CheckResult(name="disk", status="ok" if free >= MIN_FREE_GB else "warning", detail=f"{free:.1f} GB free")
    if any((folder / ".git").exists() for folder in (there, *there.parents)):
        detail = "inside a git work tree: results may depend on patients, do not commit them"
        yield CheckResult(name="git", status="warning", detail=detail)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    """Return the leading release numbers of a version: `2.13.0+cpu` is (2, 13, 0)."""
    found = re.match(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()
