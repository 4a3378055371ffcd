from __future__ import annotations

import json
import logging
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from leakaudit.engine.owners import owned_name
from leakaudit.engine.store import Entry, RunStore
from leakaudit.errors import UserError

KEY = "ab" * 32
OTHER = "cd" * 32


def put(store: RunStore, key: str = KEY, text: str = "hello", kind: str = "train", sensitive: bool = False) -> Entry:
    with store.write(key, {"kind": kind, "sensitive": sensitive}) as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a.txt").write_text(text)
        (folder / "b.json").write_text("[1, 2]")
    entry = store.get(key)
    assert entry is not None
    return entry


def test_entry_comes_back_whole(store: RunStore) -> None:
    entry = put(store)
    assert entry.path("sub/a.txt").read_text() == "hello"
    assert entry.json("b.json") == [1, 2]
    assert entry.meta["kind"] == "train"
    assert entry.folder == store.root / "cells" / "ab" / KEY
    assert stat.S_IMODE(store.root.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.folder.stat().st_mode) == 0o700
    assert (store.root / ".gitignore").read_text() == "*\n"
    with pytest.raises(KeyError, match="no file 'c'"):
        entry.path("c")


def test_error_while_writing_leaves_nothing(store: RunStore) -> None:
    def fail() -> None:
        with store.write(KEY, {"kind": "train", "sensitive": False}) as folder:
            (folder / "half").write_text("x")
            assert store.get(KEY) is None
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert list((store.root / "cells" / "ab").iterdir()) == []


def test_existing_entry_wins(store: RunStore) -> None:
    put(store, text="first")
    assert put(store, text="second").path("sub/a.txt").read_text() == "first"
    assert [path.name for path in (store.root / "cells" / "ab").iterdir()] == [KEY]


def test_two_writers_at_once_give_one_whole_entry(store: RunStore) -> None:
    barrier = threading.Barrier(4)

    def write(text: str) -> None:
        with RunStore(store.root).write(KEY, {"kind": "train", "sensitive": False}) as folder:
            (folder / "a").write_text(text * 1000)
            barrier.wait()

    threads = [threading.Thread(target=write, args=(text,)) for text in "wxyz"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    entry = store.get(KEY)
    assert entry is not None
    assert len(set(entry.path("a").read_text())) == 1
    assert [path.name for path in (store.root / "cells" / "ab").iterdir()] == [KEY]


@pytest.mark.parametrize("damage", ["size", "content", "missing file", "no entry", "bad json", "wrong key"])
def test_corrupt_entry_is_dropped_with_a_warning(store: RunStore, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    folder = put(store).folder
    if damage == "size":
        (folder / "sub" / "a.txt").write_text("hello!")
    elif damage == "content":
        (folder / "sub" / "a.txt").write_text("hellO")
    elif damage == "missing file":
        (folder / "b.json").unlink()
    elif damage == "no entry":
        (folder / "entry.json").unlink()
    elif damage == "bad json":
        (folder / "entry.json").write_text('{"key": ')
    else:
        record = json.loads((folder / "entry.json").read_text())
        (folder / "entry.json").write_text(json.dumps({**record, "key": OTHER}))
    fresh = RunStore(store.root)
    with caplog.at_level(logging.WARNING):
        assert fresh.get(KEY) is None
    assert KEY[:12] in caplog.text
    assert not folder.exists()
    assert put(fresh).path("sub/a.txt").read_text() == "hello"


def test_killed_writer_leaves_no_entry_and_is_cleaned_up_while_living_writers_are_not(store: RunStore) -> None:
    code = (
        "import sys, time, pathlib; from leakaudit.engine.store import RunStore\n"
        "with RunStore(pathlib.Path(sys.argv[1])).write(sys.argv[2], {'kind': 'train', 'sensitive': True}) as folder:\n"
        "    (folder / 'a').write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code, str(store.root)]
    writers = [subprocess.Popen([*command, key], stdout=subprocess.PIPE) for key in (KEY, OTHER)]
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
        writers[0].kill()
        writers[0].wait()
        again = RunStore(store.root)
        assert again.get(KEY) is None
        assert list((store.root / "cells" / "ab").iterdir()) == []
        assert len(list((store.root / "cells" / "cd").iterdir())) == 1
    finally:
        for writer in writers:
            writer.send_signal(signal.SIGKILL)
            writer.communicate()


def test_links_reserved_names_and_poor_meta_are_refused(store: RunStore) -> None:
    with pytest.raises(ValueError, match="links"), store.write(KEY, {"kind": "train", "sensitive": False}) as folder:
        (folder / "link").symlink_to(os.devnull)
    with pytest.raises(ValueError, match="sensitive"), store.write(KEY, {"kind": "train"}):
        pass
    with pytest.raises(ValueError, match="not a key"):
        store.get("../../etc")
    assert store.get(KEY) is None


def test_info_and_prune(store: RunStore) -> None:
    put(store, KEY, kind="train", sensitive=True)
    put(store, OTHER, kind="score")
    put(store, "ef" * 32, kind="train", sensitive=True)
    info = store.info()
    assert (info.count, dict(info.bytes_by_kind), info.sensitive_bytes) == (3, {"score": 11, "train": 22}, 22)
    assert store.prune(sensitive=True, keep={KEY}) == 11
    assert store.info().count == 2
    assert store.prune() == 22
    assert store.info().count == 0
    assert RunStore(Path(store.root)).get(KEY) is None


def dead(prefix: str) -> str:
    """Return a name as `owned_name` makes it, of a process that does not live."""
    return re.sub(r"-[0-9]+-[0-9]+-", f"-{2**22 + 1}-1-", owned_name(prefix))


@pytest.mark.parametrize("sensitive", [True, False])
def test_pruning_takes_what_is_no_entry_along(store: RunStore, sensitive: bool) -> None:
    """A half-written or damaged entry may hold anything; what a living process writes stays."""
    kept = put(store, OTHER, kind="score")
    damaged = put(store, KEY, sensitive=False).folder
    (damaged / "entry.json").write_text("{")
    stray = damaged.parent / "notes.txt"
    stray.write_text("patient 7")
    left = damaged.parent / dead(f".{KEY}")
    left.mkdir()
    (left / "images.npy").write_text("patient 7")
    living = damaged.parent / owned_name(f".{'ab' * 31}00")
    living.mkdir()
    assert store.prune(sensitive=sensitive) > 0
    assert [path for path in (damaged, stray, left) if path.exists()] == []
    assert kept.folder.exists() is sensitive
    assert living.is_dir()
    assert store.unfinished() == 1
    living.rmdir()
    assert store.unfinished() == 0


def test_pruning_never_follows_links(store: RunStore, tmp_path: Path) -> None:
    shelf = put(store, KEY, sensitive=True).folder.parent
    apart = tmp_path / "apart"
    (apart / ("cd" * 32)).mkdir(parents=True)
    (apart / ("cd" * 32) / "precious.txt").write_text("mine")
    (apart / dead(".cd")).mkdir()
    (apart / "record.json").write_text("mine")
    for place, target in (
        (store.root / "cells" / "cd", apart), (shelf / ("ef" * 32), apart / ("cd" * 32)), (shelf / KEY / "link", apart),
        (shelf / "a-file", apart / "record.json"),
    ):  # fmt: skip
        place.symlink_to(target)
    again = RunStore(store.root)
    assert not (store.root / "cells" / "cd").exists(), "a link among the shelves is taken away when the store is opened"
    assert again.get("cd" * 32) is None
    again.prune()
    assert (apart / ("cd" * 32) / "precious.txt").read_text() == "mine"
    assert (apart / "record.json").read_text() == "mine"
    assert len(list(apart.iterdir())) == 3
    assert list(shelf.iterdir()) == []


def test_an_entry_that_is_a_link_is_no_entry(store: RunStore, tmp_path: Path) -> None:
    folder = put(store).folder
    folder.rename(tmp_path / KEY)
    folder.symlink_to(tmp_path / KEY)
    assert RunStore(store.root).get(KEY) is None
    assert not folder.is_symlink()
    assert (tmp_path / KEY / "entry.json").exists()


def test_cells_that_are_a_link_are_refused(tmp_path: Path) -> None:
    (tmp_path / "home" / "ab").mkdir(parents=True)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "cells").symlink_to(tmp_path / "home")
    with pytest.raises(UserError, match="is a link"):
        RunStore(tmp_path / "store")


def test_a_store_that_others_may_enter_is_closed(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir(mode=0o755)
    (tmp_path / "store").chmod(0o755)
    assert stat.S_IMODE(RunStore(tmp_path / "store").root.stat().st_mode) == 0o700


def test_what_cannot_be_removed_is_no_success(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store, sensitive=True)

    def refuse(path: Path, ignore_errors: bool) -> None:
        assert not ignore_errors, "an error that is ignored leaves patient data behind"
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("leakaudit.engine.store.shutil.rmtree", refuse)
    with pytest.raises(PermissionError):
        store.prune(sensitive=True)
