"""The two logs of a run: `run.log`, which holds no patient's name, and the private one inside the store, which holds everything."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from leakaudit.engine.disclosure import Disclosure

__all__ = ["FOREIGN", "PRIVATE_LOG", "RUN_LOG", "logging_to"]

RUN_LOG = "run.log"
PRIVATE_LOG = "private.log"
"""Name in the store's folder; pruning what is sensitive removes it."""

FOREIGN = {"foreign": True}
"""`extra` of records whose words nobody checked: what cells print, and reasons as they were before they were cleaned."""

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


class _Clean(logging.Formatter):
    """Writes records without identifiers and tracebacks."""

    def __init__(self, disclosure: Disclosure) -> None:
        super().__init__(_FORMAT)
        self._disclosure = disclosure

    def format(self, record: logging.LogRecord) -> str:
        clean = logging.makeLogRecord(record.__dict__)
        clean.msg, clean.args = self._disclosure.text(record.getMessage()), ()
        clean.exc_info = clean.exc_text = clean.stack_info = None
        return super().format(clean)


@contextlib.contextmanager
def logging_to(folder: Path, store: Path, disclosure: Disclosure) -> Iterator[None]:
    """Let leakaudit's loggers write into a run's logs.

    Args:
        folder: Folder of the run, for `run.log`.
        store: Folder of its store, for `private.log`; not written where patients are synthetic.
        disclosure: How the run speaks of its patients.
    """
    logger = logging.getLogger("leakaudit")
    before = logger.level
    logger.setLevel(logging.INFO)
    handlers = [_handler(folder / RUN_LOG)]
    if disclosure.real:
        handlers[0].setFormatter(_Clean(disclosure))
        handlers.append(_handler(store / PRIVATE_LOG))
    if disclosure.private:
        handlers[0].addFilter(lambda record: not getattr(record, "foreign", False))
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()
        logger.setLevel(before)


def _handler(path: Path) -> logging.FileHandler:
    """Return a handler of a file that only its owner may read, and that is not a link to another one."""
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600))
    path.chmod(0o600)
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(_FORMAT))
    return handler
