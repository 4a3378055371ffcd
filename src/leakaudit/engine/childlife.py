"""What runs inside the clean child (see `child`): wait for one request, give up all other files, call, answer, exit."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, NoReturn

import leakaudit
from leakaudit.engine.landlock import restrict
from leakaudit.engine.processes import close_descriptors, die_with_parent
from leakaudit.engine.reasons import public_sentence, sentence
from leakaudit.engine.torchsetup import set_up_torch, thread_variables

__all__ = ["live"]

_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def live(parent: int, request: int, answer: int, output: int) -> NoReturn:
    """Live as the clean child, just forked; leaves only by exiting.

    Args:
        parent: Process id of the job's process.
        request: Pipe with the one request, as a JSON object; closed without one when the job needs no child after all.
        answer: Pipe for two lines: the sandbox, and the result or error.
        output: Pipe for what foreign code prints.
    """
    try:
        os.setsid()
        die_with_parent(parent)
        os.dup2(output, 1)
        os.dup2(output, 2)
        close_descriptors({0, 1, 2, request, answer})
        _clear_environment()
        with os.fdopen(request, "r") as pipe:
            text = pipe.read()
        if text:
            _serve(json.loads(text), answer)
    finally:
        os._exit(0)


def _serve(request: dict[str, Any], answer: int) -> None:
    """Run a request and write the answer; `SystemExit` and the like end the process with their code, as they should."""
    folder = Path(request["folder"])
    try:
        _enter(folder, request["threads"], request["deterministic"])
        module, _, function = request["target"].partition(":")
        sys.path += [entry for entry in request["path"] if entry not in sys.path]
        restricted = restrict(writable=[folder], readable=_code_of(module))
        os.write(answer, json.dumps({"sandbox": "landlock" if restricted else "none"}).encode() + b"\n")
        result = getattr(importlib.import_module(module), function)(folder)
        text = json.dumps({"result": result})
    except SystemExit as error:
        _flush()
        os._exit(error.code if isinstance(error.code, int) else 1)
    except BaseException as error:  # noqa: BLE001 - whatever foreign code raises becomes one sentence in the report
        text = json.dumps({"error": sentence(error), "public": public_sentence(error), "traceback": traceback.format_exc()})
    _flush()  # The child is killed once its answer is complete.
    data = text.encode() + b"\n"
    while data:
        data = data[os.write(answer, data) :]


def _enter(folder: Path, threads: int, deterministic: bool) -> None:
    """Make the folder the working directory and the place for temporary files, and set up torch."""
    os.chdir(folder)
    os.environ.update(HOME=str(folder), TMPDIR=str(folder), **thread_variables(threads))
    set_up_torch(threads, deterministic)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def _clear_environment() -> None:
    kept = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    os.environ.clear()
    os.environ.update(kept)


def _code_of(module: str) -> list[Path]:
    """Where the code that the child may import lies: Python, its packages, this package, and the target's own package.

    The import path is taken as the fork server had it. Of a folder that the request adds (say, a script's folder, which may
    hold anything) only the target's package is opened. Looking for it also fills the import system's cache of file names,
    which Landlock would deny it later.
    """
    found = [Path(sys.prefix), Path(sys.base_prefix), Path(leakaudit.__file__).parent]
    found += [Path(entry) for entry in _SERVER_PATH]
    spec = importlib.util.find_spec(module.split(".", 1)[0])
    if spec is not None and spec.submodule_search_locations:
        found += [Path(place) for place in spec.submodule_search_locations]
    elif spec is not None and spec.origin and os.path.isabs(spec.origin):
        found.append(Path(spec.origin))
    return found


_SERVER_PATH = [entry for entry in sys.path if os.path.isabs(entry)]
