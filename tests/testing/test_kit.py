"""The kit names the check that a plugin breaks."""

from __future__ import annotations

import pytest
from faulty import FAULTY
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.plugins.descriptors import Kind
from leakaudit.testing import CheckResult, ConformanceError, check, check_attack, checks

UNTRIED = {"taxonomy", "guarantee", "noise", "sampling", "shadow"}


@pytest.fixture
def faulty(site: Site) -> Site:
    site.install("leakaudit-faulty", FAULTY)
    return site


def statuses(kind: Kind, name: str, **options: object) -> dict[str, str]:
    return {r.name: r.status for r in check(kind, name, **options)}


@pytest.mark.parametrize(("kind", "name"), [("attack", "a"), ("defense", "d"), ("protocol", "p"), ("dataset", "s")])
def test_a_sound_plugin_passes_every_check(faulty: Site, kind: Kind, name: str) -> None:
    found = statuses(kind, name)
    assert {check for check, status in found.items() if status != "passed"} <= UNTRIED
    assert len(found) > 12


def test_an_attack_that_only_looks_on_passes(faulty: Site) -> None:
    assert statuses("attack", "a", examples=[{"fault": "rider"}])["passive"] == "passed"


def test_a_recipe_by_which_shadow_models_learn_passes(faulty: Site) -> None:
    found = {r.name: r for r in check("defense", "d", examples=[{"fault": "sends"}])}
    assert found["shadow"].status == "passed"
    silent = {r.name: r for r in check("defense", "d")}
    assert silent["shadow"].status == "not-tried"
    assert "no recipe" in silent["shadow"].detail


FAULTS = [
    ("attack", "a", "raises", "requires", "KeyError"),
    ("attack", "a", "unseen", "requires", "neither sends nor receives"),
    ("attack", "a", "beside", "requires", "taps 'activation'"),
    ("attack", "a", "impure", "requires", "two answers"),
    ("attack", "a", "canaries", "requires", "canaries"),
    ("attack", "a", "reason", "requires", "gives no reason"),
    ("attack", "a", "meddler", "passive", "other weights"),
    ("attack", "a", "crash", "runs", "RuntimeError: no idea"),
    ("attack", "a", "nan", "runs", "not finite"),
    ("attack", "a", "kind", "evidence", "returned Values"),
    ("attack", "a", "drops", "scorable", "says nothing about 1 of 4"),
    ("attack", "a", "clock", "deterministic", "different evidence"),
    ("attack", "a", "global", "own-randomness", "global random generator"),
    ("defense", "d", "nobody", "needs", "no party has the role 'janitor'"),
    ("defense", "d", "unit", "needs", "claims nothing"),
    ("defense", "d", "crash", "trains", "RuntimeError: no idea"),
    ("defense", "d", "nan", "trains", "not finite"),
    ("defense", "d", "clock", "deterministic", "different weights"),
    ("defense", "d", "global", "own-randomness", "global random generator"),
    ("defense", "d", "numpy", "own-randomness", "global random generator"),
    ("defense", "d", "noise", "stochastic", "does not say so"),
    ("defense", "boaster", "", "stochastic", "changes nothing"),
    ("defense", "boaster", "", "claim", "guarantee.. is None"),
    ("defense", "d", "detach", "replica", "no gradient"),
    ("defense", "d", "claims", "claim", "claims nothing"),
    ("defense", "d", "ghost", "guarantee", "covers activation/ghost"),
    ("defense", "d", "empty", "empty-batches", "ZeroDivisionError"),
    ("defense", "d", "loose", "shadow", "a clip norm that it does not give"),
    ("defense", "d", "zero", "shadow", "clip 0.0 .expected a finite number, above 0"),
    ("defense", "d", "word", "shadow", "returned a str"),
    ("defense", "d", "impure", "shadow", "two answers"),
    ("defense", "d", "lonely", "shadow", "learn alone, while nothing that they send passes"),
    ("defense", "d", "fraction", "shadow", "clip Fraction"),
    ("defense", "d", "asks", "shadow", "ZeroDivisionError"),
    ("defense", "d", "hush", "shadow", "learning stays as it is"),
    ("defense", "d", "in-place", "shadow", "cannot learn by its recipe under split"),
    ("protocol", "p", "twice", "facts", "a name of its own"),
    ("protocol", "p", "absence", "facts", "names the seat 'nobody'"),
    ("protocol", "p", "flow", "flows", "do not announce"),
    ("protocol", "p", "clock", "deterministic", "different weights"),
    ("protocol", "p", "shape", "predictor", "shape"),
    ("protocol", "p", "replica", "replicas", "NoneType"),
    ("dataset", "s", "unsorted", "inventory", "unsorted"),
    ("dataset", "s", "torch", "light-inventory", "imports torch"),
    ("dataset", "s", "site", "loads", "another site"),
    ("dataset", "s", "labels", "loads", "not canonical"),
    ("dataset", "s", "raw", "z-scores", "standard deviation"),
    ("dataset", "s", "background", "background", "exactly 0"),
    ("dataset", "s", "company", "repeatable", "loaded alone"),
]


@pytest.mark.parametrize(("kind", "name", "fault", "broken", "says"), FAULTS, ids=[f"{f[0]}-{f[2] or f[3]}" for f in FAULTS])
def test_a_fault_fails_the_check_that_is_named_for_it(
    faulty: Site, kind: Kind, name: str, fault: str, broken: str, says: str
) -> None:
    one = next(c for c in checks(kind, name, examples=[{"fault": fault}]) if c.name == broken)
    with pytest.raises(ConformanceError, match=rf"(?s)breaks the plugin contract.*{broken}: .*{says}.* Fix: .+"):
        one()


def test_every_violated_check_of_a_careless_descriptor_is_listed(faulty: Site) -> None:
    with pytest.raises(ConformanceError) as caught:
        check("attack", "careless")
    assert caught.value.exit_code == 1
    assert {r.name for r in caught.value.results if r.status == "failed"} == {"summary", "references", "taxonomy", "target"}
    text = str(caught.value)
    assert text.startswith("attack leakaudit-faulty/careless breaks the plugin contract in 4 checks of 16:")
    assert "has no 'Missing'" in text
    assert "owasp:ML3" in text
    assert next(r for r in caught.value.results if r.name == "runs").status == "not-tried"
    with pytest.raises(ConformanceError, match=r"target: .*not a subclass of leakaudit.attacks.base.Attack"):
        next(c for c in checks("attack", "no-attack") if c.name == "target")()


def test_a_params_module_that_imports_torch_is_not_light(site: Site) -> None:
    site.install("leakaudit-heavy", {**FAULTY, "params.py": "import torch\n" + FAULTY["params.py"]})
    site.root.joinpath("leakaudit_heavy/plugin.py").write_text(FAULTY["plugin.py"].replace("_faulty", "_heavy"))
    light = next(c for c in checks("defense", "leakaudit-heavy/d") if c.name == "light")
    with pytest.raises(ConformanceError, match=r"light: importing 'leakaudit_heavy.plugin' imports torch"):
        light()


def test_undescribed_fields_of_nested_models_and_missing_defaults(site: Site) -> None:
    source = FAULTY["params.py"].replace(
        "class Attack(AttackParams):\n    fault: str = FAULT",
        "from pydantic import BaseModel\nclass Inner(BaseModel):\n    width: int = 3\n\n"
        'class Attack(AttackParams):\n    fault: str = Field(description="Needed.")\n'
        '    inner: list[Inner] = Field([], description="Nested.")',
    )
    site.install("leakaudit-faulty", {**FAULTY, "params.py": source})
    found = {c.name: c for c in checks("attack", "a")}
    with pytest.raises(ConformanceError, match=r"described: the parameter 'inner.width' has no description"):
        found["described"]()
    with pytest.raises(ConformanceError, match=r"default-params: the model without arguments is invalid: fault: Field required"):
        found["default-params"]()
    assert found["requires"]().status == "not-tried"
    given = {c.name: c for c in checks("attack", "a", examples=[{"fault": ""}])}
    assert given["default-params"]().status == "passed"


def test_examples_of_the_params_model_are_used(site: Site) -> None:
    extra = '    model_config = {"json_schema_extra": {"examples": [{"fault": "crash"}]}}\n'
    source = FAULTY["params.py"].replace("class Attack(AttackParams):\n", "class Attack(AttackParams):\n" + extra)
    site.install("leakaudit-faulty", {**FAULTY, "params.py": source})
    runs = next(c for c in checks("attack", "a") if c.name == "runs")
    with pytest.raises(ConformanceError, match="no idea"):
        runs()


def test_expected_failures_need_a_reason_a_name_and_a_failure(faulty: Site) -> None:
    reason = "it reads a clock on purpose"
    results = check_attack("a", examples=[{"fault": "clock"}], expected_failures={"deterministic": reason})
    assert CheckResult(name="deterministic", status="expected", detail=reason) in results
    with pytest.raises(ConformanceError, match="deterministic: it was expected to fail and passed"):
        check_attack("a", expected_failures={"deterministic": reason})
    with pytest.raises(UserError, match="Did you mean 'deterministic'"):
        checks("attack", "a", expected_failures={"determinstic": reason})
    with pytest.raises(UserError, match="say why 'runs' is expected to fail"):
        checks("attack", "a", expected_failures={"runs": " "})


def test_checks_are_parameters_for_pytest(faulty: Site) -> None:
    found = checks("attack", "leakaudit-faulty/a")
    assert [str(c) for c in found][-1] == "own-randomness"
    assert all(c.summary.endswith(".") for c in found)
    assert found[0]() == CheckResult(name="summary", status="passed")
