from __future__ import annotations

import logging
import sys

import pytest
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.plugins.errors import PluginLoadError
from leakaudit.plugins.manager import ALLOW_LIST, NO_THIRD_PARTY


def reason(site: Site) -> str:
    (broken,) = site.discover().broken
    assert broken.distribution == "leakaudit-bad"
    assert broken.version == "1.2.3"
    return broken.reason


def install_bad(site: Site, source: str) -> None:
    site.install("leakaudit-bad", {"plugin.py": source})


def test_every_kind_is_found_and_no_target_is_imported(toys: Site) -> None:
    manager = toys.discover()
    assert manager.broken == ()
    plugin = manager.find("attack", "toy-inversion")
    assert (plugin.distribution, plugin.version, plugin.third_party) == ("leakaudit-toys", "1.2.3", True)
    assert manager.find("attack", "leakaudit-toys/toy-inversion") == plugin
    assert manager.names("attack") == ("toy-crashing", "toy-inversion", "toy-picky")
    for kind, name in [("defense", "toy-noise"), ("dataset", "toy-data"), ("executor", "toy-executor")]:
        assert manager.find(kind, name).info.kind == kind  # type: ignore[arg-type]
    assert "leakaudit_toys.runtime" not in sys.modules


def test_the_cores_own_plugins_are_first_party(site: Site) -> None:
    plugin = site.discover().find("protocol", "centralized")
    assert (plugin.distribution, plugin.third_party) == ("leakaudit", False)


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("import a_module_that_is_not_there", "ModuleNotFoundError: No module named 'a_module_that_is_not_there'"),
        ("import sys; sys.exit(3)", "it called sys.exit(3) while it was loaded"),
        ("raise ValueError('two' + chr(10) + 'lines')", "ValueError: two lines"),
        ("raise RuntimeError", "RuntimeError: (no message)"),
    ],
)
def test_whatever_happens_at_import_stays_with_the_plugin(toys: Site, before: str, expected: str) -> None:
    toys.install_attack("leakaudit-bad", "bad", before=before)
    manager = toys.discover()
    assert [broken.reason for broken in manager.broken] == [expected]
    assert manager.find("attack", "toy-inversion").info.name == "toy-inversion"


def test_what_a_plugin_prints_at_import_does_not_reach_stdout(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    site.install_attack("leakaudit-noisy", "noisy", before="print('hello')")
    assert site.discover().broken == ()
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "hello\n")


def test_unknown_hook(site: Site) -> None:
    install_bad(site, "from leakaudit.plugins import hookimpl\n@hookimpl\ndef leakaudit_atacks():\n    return []\n")
    assert reason(site) == "it implements the unknown hook 'leakaudit_atacks'. Did you mean 'leakaudit_attacks'?"


def test_unknown_argument(site: Site) -> None:
    install_bad(site, "from leakaudit.plugins import hookimpl\n@hookimpl\ndef leakaudit_attacks(config):\n    return []\n")
    assert "Argument(s) {'config'}" in reason(site)
    assert "\n" not in reason(site)


def test_missing_marker(site: Site) -> None:
    install_bad(site, "def leakaudit_attacks():\n    return []\n")
    assert "leakaudit_attacks lacks the @hookimpl marker" in reason(site)


def test_no_hook_at_all(site: Site) -> None:
    install_bad(site, "x = 1\n")
    assert reason(site).startswith("it implements no hook")


def test_wrong_descriptor(site: Site) -> None:
    install_bad(site, "from leakaudit.plugins import hookimpl\n@hookimpl\ndef leakaudit_attacks():\n    yield 'inversion'\n")
    assert reason(site) == "leakaudit_attacks yields a str, expected AttackInfo"


def test_name_that_is_not_kebab_case(site: Site) -> None:
    site.install_attack("leakaudit-bad", "Not_Kebab")
    assert "not kebab-case" in reason(site)


@pytest.mark.parametrize(
    ("version", "expected"),
    [("2.0", "update leakaudit"), ("1.7", "update leakaudit"), ("0.9", "update the plugin"), ("one", "'major.minor'")],
)
def test_api_version_that_does_not_fit(site: Site, version: str, expected: str) -> None:
    site.install_attack("leakaudit-bad", "bad", api_version=version)
    assert version in reason(site)
    assert expected in reason(site)


def test_two_plugins_with_one_name_are_reachable_by_distribution(site: Site) -> None:
    site.install_attack("leakaudit-one", "same")
    site.install_attack("leakaudit-two", "same")
    manager = site.discover()
    assert manager.find("attack", "leakaudit-two/same").distribution == "leakaudit-two"
    assert manager.names("attack") == ("leakaudit-one/same", "leakaudit-two/same")
    with pytest.raises(
        UserError, match=r"one 1\.2\.3 and leakaudit-two 1\.2\.3 both .*'leakaudit-one/same' or 'leakaudit-two/same'"
    ):
        manager.find("attack", "same")


def test_one_name_twice_in_one_distribution(site: Site) -> None:
    site.install_attack("leakaudit-bad", "same")
    points = site.root / "leakaudit_bad-1.2.3.dist-info" / "entry_points.txt"
    points.write_text("[leakaudit]\na = leakaudit_bad.plugin\nb = leakaudit_bad.plugin\n")
    assert reason(site) == "its attack 'same' is already provided by the same distribution's entry point 'a'"
    assert site.discover().find("attack", "same").qualified == "leakaudit-bad/same"


def test_misspelt_name(toys: Site) -> None:
    with pytest.raises(UserError, match=r"no attack named 'toy-invertion'\. Did you mean 'toy-inversion'") as caught:
        toys.discover().find("attack", "toy-invertion")
    assert caught.value.exit_code == 2


def test_name_of_another_kind(toys: Site) -> None:
    with pytest.raises(UserError, match="'toy-noise' is a defense, not an attack"):
        toys.discover().find("attack", "toy-noise")


@pytest.mark.parametrize("name", ["bad", "leakaudit-bad", "leakaudit-bad/whatever", "something-else"])
def test_a_wanted_plugin_that_is_broken_is_a_load_error(site: Site, name: str) -> None:
    site.install_attack("leakaudit-bad", "x", before="raise OSError('disk on fire')")
    with pytest.raises(PluginLoadError, match=r"leakaudit-bad 1\.2\.3 \(entry point 'bad'\): OSError: disk on fire") as caught:
        site.discover().find("attack", name)
    assert caught.value.exit_code == 5


def test_no_third_party_and_the_allow_list(toys: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NO_THIRD_PARTY, "1")
    manager = toys.discover()
    assert "leakaudit-toys" in manager.blocked
    with pytest.raises(UserError, match=r"--no-third-party: .*leakaudit-toys"):
        manager.find("attack", "toy-inversion")
    monkeypatch.delenv(NO_THIRD_PARTY)
    monkeypatch.setenv(ALLOW_LIST, " Leakaudit_Toys , other")
    assert "leakaudit-toys" not in toys.discover().blocked


TRACKER = """
    from leakaudit.plugins import hookimpl

    seen = []

    @hookimpl
    def leakaudit_cell_finished(label, seconds):
        if label == "bad":
            raise RuntimeError("tracker down")
        seen.append((label, seconds))
"""


def test_trackers_hear_and_cannot_stop_a_run(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    site.install("leakaudit-tracker", {"plugin.py": TRACKER})
    manager = site.discover()
    manager.notify("leakaudit_run_started", name="a", cells=2)
    manager.notify("leakaudit_cell_finished", kind="train", label="split", status="ok", seconds=1.5)
    assert sys.modules["leakaudit_tracker.plugin"].seen == [("split", 1.5)]
    with caplog.at_level(logging.WARNING):
        manager.notify("leakaudit_cell_finished", kind="train", label="bad", status="ok", seconds=1.0)
    assert "tracker leakaudit-tracker 1.2.3 failed" in caplog.text
    with pytest.raises(ValueError, match="no run event"):
        manager.notify("leakaudit_attacks")
