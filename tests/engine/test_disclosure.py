"""What failures may say: no arrays, no folders, and of real patients no words of other code; logs and salts for owners only."""

from __future__ import annotations

import inspect
import logging
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from leakaudit.cli import _guard
from leakaudit.engine.api import STORE
from leakaudit.engine.child import ChildError
from leakaudit.engine.disclosure import Disclosure, region_support
from leakaudit.engine.jobs import Outcome
from leakaudit.engine.logs import FOREIGN, PRIVATE_LOG, logging_to
from leakaudit.engine.reasons import public_sentence, sentence, withholding
from leakaudit.engine.remote import PartyError
from leakaudit.engine.salt import run_salt
from leakaudit.errors import UserError
from leakaudit.report.privacy import Identifiers

TENSOR, ARRAY = torch.linspace(0.1, 0.9, 60).reshape(3, 20), np.linspace(0.1, 0.9, 60).reshape(3, 20)
NAME, FOLDER = "Oyelaran", "/mnt/pacs/Ward 9/Oyelaran Funmilayo"

MESSAGES: dict[str, tuple[object, ...]] = {
    "a tensor": (TENSOR,),
    "a tensor inside": (f"bad input {TENSOR} of the cell",),
    "an array": (ARRAY,),
    "its repr": (f"bad input {ARRAY!r} of the cell",),
    "its print": (f"bad input {ARRAY} of the cell",),
    "a list": (ARRAY.tolist(),),
    "an open list": (str(ARRAY.tolist())[:200],),
    "numbers in a row": (" ".join(f"{v:.5f}" for v in ARRAY.ravel()),),
    "numbers with commas": (", ".join(f"{v:.3e}" for v in ARRAY.ravel()),),
    "several lines": (f"first\nsecond {ARRAY.tolist()}\nthird",),
    "several arguments": ("bad", ARRAY, TENSOR),
    "a dict": ({"x": ARRAY.tolist()},),
    "a parameter": (torch.nn.Parameter(TENSOR),),
}


@pytest.mark.parametrize("what", MESSAGES)
@pytest.mark.parametrize("kind", [RuntimeError, KeyError, OSError, Exception])
def test_no_reason_prints_data(kind: type[Exception], what: str) -> None:
    text = sentence(kind(*MESSAGES[what]))
    assert text.startswith(kind.__name__)
    assert len(text) <= 330
    assert "\n" not in text
    digits = [f"{v:.{n}f}"[1:] for v in (0.1, 0.9, ARRAY[1, 3]) for n in (4, 5)] + [f"{ARRAY[1, 3]:.3e}", "0.1136", "0.1271"]
    assert not [d for d in digits if d in text], text


def raised(raise_it: Callable[[], object]) -> Exception:
    try:
        raise_it()
    except Exception as error:  # noqa: BLE001 - whatever it raises is what the test wants
        return error
    raise AssertionError("nothing was raised")


def chained() -> None:
    try:
        raise KeyError(NAME)
    except KeyError as error:
        raise LookupError("no such scan") from error


def test_of_a_chain_only_the_end_is_told() -> None:
    error = raised(chained)
    assert NAME not in sentence(error)
    assert "no such scan" in sentence(error)
    assert public_sentence(error).startswith("LookupError (test_disclosure.py:")


def test_an_encoding_error_does_not_print_what_could_not_be_encoded() -> None:
    for error in (raised(lambda: (NAME.encode() + b"\xff").decode()), raised(lambda: f"{NAME}\udcff".encode())):
        assert NAME not in sentence(error)
        assert NAME not in public_sentence(error)


def test_an_error_that_cannot_be_printed_is_told_all_the_same() -> None:
    class MuteError(Exception):
        def __str__(self) -> str:
            raise ValueError(NAME)

    assert sentence(MuteError()) == "MuteError"


def test_folders_with_blanks_are_left_out() -> None:
    for text in (f"cannot open {FOLDER}/t1.nii.gz now", f"cannot open '{FOLDER}/t1.nii.gz' now"):
        found = sentence(RuntimeError(text))
        assert "Ward" not in found
        assert NAME not in found
        assert "t1.nii.gz" in found


# Words of other code ------------------------------------------------------------------------------------------------------


def foreign(message: str) -> Exception:
    """Raise in a module that is not leakaudit's."""
    module = ModuleType("someones_attack")
    exec(compile("def fail(text):\n    raise ValueError(text)\n", "/home/someone/attack.py", "exec"), module.__dict__)
    return raised(lambda: module.fail(message))


def ours() -> Exception:
    return raised(lambda: Identifiers({}).remove(None))  # type: ignore[arg-type]


def test_other_code_keeps_its_words_to_itself() -> None:
    assert public_sentence(foreign(f"the scan of {NAME}")) == "ValueError (attack.py:2 in fail)"
    assert sentence(foreign("the scan is odd")) == "ValueError: the scan is odd (attack.py:2 in fail)"
    with withholding():
        assert sentence(foreign(f"the scan of {NAME}")) == "ValueError (attack.py:2 in fail)"
    with withholding(False):
        assert "odd" in sentence(foreign("the scan is odd"))
    assert "odd" in sentence(foreign("the scan is odd"))


def test_leakaudit_keeps_its_own_words() -> None:
    from leakaudit.attacks.evidence import EvidenceError, Scores

    error = raised(lambda: Scores(name="loss", channel="output", about=("a", "b"), scores=np.zeros(1, np.float32)))
    assert isinstance(error, EvidenceError)
    assert public_sentence(error).startswith("EvidenceError: evidence 'loss' has 1 rows about 2 targets (")


def test_what_is_passed_on_stays_without_words() -> None:
    child = ChildError("ValueError: the scan of Oyelaran (attack.py:2 in fail)", "ValueError (attack.py:2 in fail)")
    assert NAME not in public_sentence(child)
    assert "attack.py:2" in public_sentence(child)
    assert NAME not in public_sentence(PartyError(child))
    assert NAME in str(PartyError(child))
    assert public_sentence(ChildError("It returned too much.")) == "ChildError: It returned too much."


def disclosure(*, private: bool = True) -> Disclosure:
    names = Identifiers({"Abiodun, Olga": "<identifier>", "7": "<identifier>", "St. Wendelin": "site-1"})
    return Disclosure(real=True, private=private, identifiers=names, vocabulary=frozenset({"activation", "server", "toy-noise"}))


def test_private_reasons_are_public_words_without_identifiers() -> None:
    said = Outcome("k", "error", f"ValueError: the scan of {NAME} (a.py:2 in f)", public="ValueError (a.py:2 in f)")
    assert disclosure().outcome(said).reason == "ValueError (a.py:2 in f)"
    assert disclosure().outcome(said).public == ""
    assert NAME in disclosure(private=False).outcome(said).reason, "public patients may be spoken of, except by their keys"
    text = "UserError: Patients Abiodun, Olga and 7 of 'St. Wendelin' have 'Grete' on 'activation', 'client-0'"
    own = Outcome("k", "error", text, public=text)
    assert disclosure().outcome(own).reason == (
        "UserError: Patients <identifier> and <identifier> of 'site-1' have '...' on 'activation', 'client-0'"
    )
    assert "Abiodun" not in disclosure(private=False).outcome(own).reason


def test_an_executor_that_does_not_tell_words_apart_is_not_repeated() -> None:
    said = Outcome("k", "error", f"ValueError: the scan of {NAME}")
    assert disclosure().outcome(said).reason == "It failed; what it said of real patients is not shown."


def test_regions_are_counted_by_test_patient() -> None:
    table = [[0.5, None, None], [0.6, 0.4, None], [None, None, None]]
    found = region_support({("split", "none"): ({"utility": {"dice": table}},), ("split", "failed"): ()})
    assert found == {("split", "none"): {"WT": 2, "TC": 1, "ET": 0}}


def test_the_message_after_an_upgrade_names_the_same_log() -> None:
    """The command line writes tracebacks where the engine writes its private log, without importing it."""
    assert f'"{STORE}" / "{PRIVATE_LOG}"' in inspect.getsource(_guard)


def test_synthetic_reasons_and_the_engines_own_are_left_alone() -> None:
    plain = Disclosure(real=False, private=False, identifiers=Identifiers({}))
    said = Outcome("k", "error", "ValueError: p007 at /tmp/x.nii (a.py:2 in f)", public="ValueError (a.py:2 in f)")
    assert plain.outcome(said) == said
    late = Outcome("k", "timeout", "It was still running after its limit of 7 s.")
    assert disclosure().outcome(late) == late


# Logs and salt ------------------------------------------------------------------------------------------------------------


def logged(tmp_path: Path, how: Disclosure) -> tuple[str, str | None]:
    (tmp_path / "store").mkdir()
    logger = logging.getLogger("leakaudit.test")
    with logging_to(tmp_path, tmp_path / "store", how):
        logger.info("cohort of %s", "Abiodun, Olga")
        logger.info("printed %s", NAME, extra=FOREIGN)
        try:
            raise ValueError(NAME)
        except ValueError:
            logger.exception("section failed")
    logger.info("after the run")
    private = tmp_path / "store" / "private.log"
    return (tmp_path / "run.log").read_text(), private.read_text() if private.exists() else None


def test_of_private_patients_the_log_says_little_and_the_private_log_everything(tmp_path: Path) -> None:
    log, private = logged(tmp_path, disclosure())
    assert "cohort of <identifier>" in log
    assert "section failed" in log
    assert NAME not in log
    assert "printed" not in log
    assert private is not None
    assert private.count(NAME) >= 2
    assert "Abiodun, Olga" in private
    assert "after the run" not in log + private
    for name in ("run.log", "store/private.log"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_of_synthetic_patients_the_log_says_all(tmp_path: Path) -> None:
    log, private = logged(tmp_path, Disclosure(real=False, private=False, identifiers=Identifiers({})))
    assert f"printed {NAME}" in log
    assert private is None


def test_a_log_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "run.log").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match=r"run\.log"), logging_to(tmp_path, tmp_path, disclosure()):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


def test_the_salt_is_random_kept_and_for_its_owner_only(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = run_salt(tmp_path / "one")
    assert len(one) == 32
    assert run_salt(tmp_path / "one") == one
    assert run_salt(tmp_path / "two") != one
    assert stat.S_IMODE((tmp_path / "one" / "salt").stat().st_mode) == 0o600


def test_a_salt_that_somebody_else_put_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "salt").write_bytes(b"short")
    with pytest.raises(UserError, match="not the salt"):
        run_salt(tmp_path)
    (tmp_path / "salt").unlink()
    (tmp_path / "known").write_bytes(bytes(32))
    (tmp_path / "salt").symlink_to(tmp_path / "known")
    with pytest.raises(UserError, match="not the salt"):
        run_salt(tmp_path)
    (tmp_path / "known").unlink()
    with pytest.raises(UserError, match="not the salt"):
        run_salt(tmp_path)


def test_the_salt_is_never_readable_by_others_even_for_a_moment(tmp_path: Path) -> None:
    """Under a careless umask, too: the mode is there from the start."""
    code = (
        "import os, pathlib, sys\n"
        "os.umask(0)\n"
        "modes = []\n"
        "real = os.open\n"
        "def spying(path, flags, mode=0o777, **more):\n"
        "    descriptor = real(path, flags, mode, **more)\n"
        "    modes.append(os.fstat(descriptor).st_mode & 0o777)\n"
        "    return descriptor\n"
        "os.open = spying\n"
        "from leakaudit.engine.salt import run_salt\n"
        "run_salt(pathlib.Path(sys.argv[1]))\n"
        "assert modes == [0o600], modes\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env={**os.environ})
