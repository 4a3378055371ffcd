"""Turns whatever a verb raises into one message on stderr and an exit code."""

from __future__ import annotations

import functools
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

from leakaudit.errors import UserError

__all__ = ["DEBUG", "guarded"]

DEBUG = "LEAKAUDIT_DEBUG"
"""Environment variable: 1 shows the traceback of an internal error."""


def guarded(verb: Callable[..., None]) -> Callable[..., None]:
    """Wrap a verb so that no traceback reaches people.

    Exit codes: that of a `UserError`; 130 when interrupted; 1 for anything unexpected, whose traceback goes into the store
    of the verb's run folder if it has one, because it may name patients, and to stderr with `LEAKAUDIT_DEBUG=1`.
    """

    @functools.wraps(verb)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        try:
            verb(*args, **kwargs)
        except UserError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(error.exit_code) from error
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except KeyboardInterrupt as error:
            typer.echo("interrupted; run the same command again to go on.", err=True)
            raise typer.Exit(130) from error
        except BrokenPipeError as error:
            # The reader of our output went away (`leakaudit plugins list | head`): nothing is wrong, and Python must
            # not complain again when it flushes stdout at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from error
        except Exception as error:
            _report(error, kwargs.get("out"))
            raise typer.Exit(1) from error

    return wrapper


def _report(error: Exception, out: object) -> None:
    """Say what happened in one line, without data and paths, and keep the traceback where it helps."""
    from leakaudit.engine.reasons import public_sentence

    typer.echo(f"internal error: {public_sentence(error)}", err=True)
    if os.environ.get(DEBUG, "") not in ("", "0"):
        traceback.print_exception(error)
    elif isinstance(out, Path) and (out / "store").is_dir():
        log = out / "store" / "private.log"  # as in leakaudit.engine.logs, which may be what cannot be imported
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            traceback.print_exception(error, file=stream)
        typer.echo(f"The traceback is in {log}.", err=True)
    else:
        typer.echo(f"Set {DEBUG}=1 to see the traceback.", err=True)
