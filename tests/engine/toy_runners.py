"""Runners that behave and misbehave; imported by job processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from leakaudit.engine.child import ChildError
from leakaudit.engine.jobprocess import Context

Spec = dict[str, Any]


def write(spec: Spec, context: Context) -> dict[str, Any]:
    total = spec.get("value", 1) + sum(context.store.get(key).json("out.json") for key in context.job.inputs)  # type: ignore[union-attr]
    time.sleep(spec.get("sleep", 0))
    context.progress(1, 2)
    context.log("half way\nthere")
    print("printed")
    with context.store.write(context.job.key, {"kind": context.job.kind, "sensitive": False}) as folder:
        (folder / "out.json").write_text(str(total))
    return {"total": total}


def forget(spec: Spec, context: Context) -> dict[str, Any]:
    return {}


def raise_error(spec: Spec, context: Context) -> dict[str, Any]:
    import torch

    raise ValueError(f"patient {torch.rand(50)} in /secret/folder/scan.nii has 3 labels")


def exit_hard(spec: Spec, context: Context) -> dict[str, Any]:
    os._exit(spec.get("code", 3))


def exit_softly(spec: Spec, context: Context) -> dict[str, Any]:
    sys.exit(4)


def kill_itself(spec: Spec, context: Context) -> dict[str, Any]:
    os.kill(os.getpid(), signal.SIGKILL)
    return {}


def kill_supervisor(spec: Spec, context: Context) -> dict[str, Any]:
    _leave_daemon(Path(spec["pids"]))
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)
    return {}


def hang(spec: Spec, context: Context) -> dict[str, Any]:
    _leave_daemon(Path(spec["pids"]))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return {}


def leave_daemon(spec: Spec, context: Context) -> dict[str, Any]:
    _leave_daemon(Path(spec["pids"]))
    return write(spec, context)


def _leave_daemon(pids: Path) -> None:
    """Write the ids of this process and of a grandchild in a session of its own, whose parent has exited."""
    code = "import subprocess; p = subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=2); print(p.pid)"
    grandchild = subprocess.run([sys.executable, "-c", code], stdout=-1, stderr=-3, text=True, check=True).stdout
    pids.write_text(f"{os.getpid()} {grandchild}")


def use_memory(spec: Spec, context: Context) -> dict[str, Any]:
    import torch

    block = torch.ones(spec["mb"], 2**18)
    time.sleep(spec.get("sleep", 0.3))
    return write({**spec, "value": int(block[0, 0])}, context)


def settings(spec: Spec, context: Context) -> dict[str, Any]:
    import torch

    return write(spec, context) | {
        "threads": torch.get_num_threads(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "workspace": os.environ["CUBLAS_WORKSPACE_CONFIG"],
        "variable": os.environ.get("TOY_VARIABLE"),
        "cwd": os.getcwd(),
        "hash": hash("same in every run"),
    }


def loaded(spec: Spec, context: Context) -> dict[str, Any]:
    """Say which of `modules` are there, and how many objects the garbage collector leaves alone."""
    import gc

    there = [name for name in spec["modules"] if name in sys.modules]
    return write(spec, context) | {"there": there, "frozen": gc.get_freeze_count(), "collects": gc.isenabled()}


def call_child(spec: Spec, context: Context) -> dict[str, Any]:
    """Call foreign code; the answer, or the kind and text of the failure, is the detail."""
    folder = context.scratch / "view"
    folder.mkdir()
    (folder / "given.txt").write_text("given")
    try:
        answer = context.child.call(spec["target"], folder, spec.get("timeout"))
    except ChildError as error:
        answer = {"failure": type(error).__name__, "text": str(error)}
    written = sorted(path.name for path in folder.iterdir())
    return write(spec, context) | {"answer": answer, "written": written, "scratch": str(context.scratch)}
