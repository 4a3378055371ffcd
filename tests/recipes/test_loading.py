from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from installed_plugins import Site

from leakaudit.errors import UserError
from leakaudit.recipes.loading import load_recipe
from leakaudit.recipes.problems import RecipeError

FULL = """\
version: 1
name: toy
seed: 7
repeats: 3
data: {use: toy-data, params: {patients: 80}}
protocols:
  - toy-split
  - {use: toy-split, name: short, params: {rounds: 1}}
defenses:
  - none
  - {use: toy-noise, name: noise-0.1, params: {sigma: 0.1}}
  - {chain: [toy-dropout, {use: toy-noise, params: {sigma: 2}}]}
attacks:
  - toy-inversion
  - use: leakaudit-toys/toy-picky
    params: {target: all}
    skip: {protocols: [short], defenses: [none]}
run: {executor: toy-executor, device: "cuda:1", workers: auto, cell_timeout_s: null}
report: {images: none}
"""


def messages(load: Any, text: str = "", *overrides: str, **options: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        load(text, *overrides, **options)
    assert str(caught.value) == "\n".join(caught.value.lines)
    return list(caught.value.lines)


def test_a_full_recipe(load: Any) -> None:
    recipe = load(minimal=FULL)
    assert (recipe.name, recipe.seed, recipe.repeats) == ("toy", 7, 3)
    assert recipe.data.params.patients == 80
    assert [choice.label for choice in recipe.protocols] == ["toy-split", "short"]
    assert [choice.label for choice in recipe.defenses] == ["none", "noise-0.1", "toy-dropout+toy-noise"]
    assert recipe.defenses[0].links == ()
    assert [link.params.sigma for link in recipe.defenses[2].links] == [0.5, 2.0]
    assert [choice.label for choice in recipe.attacks] == ["toy-inversion", "toy-picky"]
    assert recipe.run.cell_timeout_s is None
    assert recipe.run.workers == "auto"
    assert recipe.executor.plugin.info.name == "toy-executor"
    assert len(recipe.choices) == 9
    picky = recipe.attacks[1]
    assert [(p, d) for p in ("toy-split", "short") for d in ("none", "noise-0.1") if not picky.applies(p, d)] == [("short", "none")]


def test_the_resolved_recipe_is_complete_and_loads_to_itself(load: Any, toys: Site) -> None:
    recipe = load(minimal=FULL)
    path = Path("recipe.resolved.yaml")
    recipe.write(path)
    document = yaml.safe_load(path.read_text())
    assert document["attacks"][0] == {"use": "toy-inversion", "name": "toy-inversion", "seeds": 1,
                                      "params": {"iterations": 10, "style": "learned"}}  # fmt: skip
    assert [entry["name"] for entry in document["defenses"]] == ["noise-0.1", "toy-dropout+toy-noise"]
    assert document["defenses"][1]["chain"][0] == {"use": "toy-dropout", "name": "toy-dropout", "params": {"sigma": 0.5}}
    assert document["run"]["executor"] == {"use": "toy-executor", "params": {}}
    assert document["policy"]["leakage_max"]["value"] == 0.1
    again = load_recipe(path, manager=toys.discover())
    assert again.document == recipe.document
    assert again.sha256 == recipe.sha256
    assert load(minimal=FULL.replace("seed: 7", "seed: 8")).sha256 != recipe.sha256


def test_defaults(load: Any) -> None:
    recipe = load("defenses:\nattacks:\n")
    assert (recipe.seed, recipe.repeats, recipe.attacks) == (0, 1, ())
    assert [choice.label for choice in recipe.defenses] == ["none"]
    assert recipe.recipe.run.device == "auto"
    assert recipe.report.images == "public"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("attacks: [toy-invertion]", "recipe.yaml:6: attacks.0.use: there is no attack named 'toy-invertion'. "
         "Did you mean 'toy-inversion'?"),
        ("attacks: [toy-noise]", "recipe.yaml:6: attacks.0.use: 'toy-noise' is a defense, not an attack."),
        ("attacks:\n  - use: toy-inversion\n    params:\n      iteration: 5",
         "recipe.yaml:9: attacks.0.params.iteration: unknown field 'iteration'. Did you mean 'iterations'?"),
        ("attacks:\n  - use: toy-inversion\n    params: {iterations: many}",
         "recipe.yaml:8: attacks.0.params.iterations: got 'many', expected a valid integer"),
        ("attacks:\n  - use: toy-inversion\n    params: {iterations: 0}",
         "recipe.yaml:8: attacks.0.params.iterations: got 0, expected a value greater than or equal to 1"),
        ("attacks:\n  - use: toy-inversion\n    params: {style: learnt}",
         "recipe.yaml:8: attacks.0.params.style: got 'learnt', expected 'learned' or 'optimized'. Did you mean 'learned'?"),
        ("attacks: [toy-picky]",
         "recipe.yaml:6: attacks.0.params.target: this field is required: What it wants."),
        ("attacks:\n- {use: toy-inversion, parms: {}}",
         "recipe.yaml:7: attacks.0.parms: unknown field 'parms'. Did you mean 'params'?"),
        ("atacks: []", "recipe.yaml:6: atacks: unknown field 'atacks'. Did you mean 'attacks'?"),
        ("attacks: toy-inversion", "recipe.yaml:6: attacks: got 'toy-inversion', expected a list"),
        ("repeats: 0", "recipe.yaml:6: repeats: got 0, expected a value greater than or equal to 1"),
        ("seed: 1\nseed: 2", "recipe.yaml:7: seed: this key already stands in line 6."),
        ("defenses: [toy-noise, toy-noise]",
         "recipe.yaml:6: defenses.1: the name 'toy-noise' is already taken by defenses.0 (recipe.yaml:6); "
         "give one of them another 'name'."),
        ("defenses: [{use: toy-noise, name: none}]", "recipe.yaml:6: defenses.0: 'none' is reserved for the undefended "
         "training, which is always the first; choose another name."),
        ("defenses: [{use: toy-noise, chain: [toy-noise]}]",
         "recipe.yaml:6: defenses.0: a defense has either 'use' or 'chain'"),
        ("defenses: [{chain: [toy-nois]}]", "recipe.yaml:6: defenses.0.chain.0.use: there is no defense named 'toy-nois'. "
         "Did you mean 'toy-noise'?"),
        ("attacks: [{use: toy-inversion, only: {defenses: [toy-noise]}}]\ndefenses: [toy-dropout]",
         "recipe.yaml:6: attacks.0.only.defenses.0: no entry of defenses is called 'toy-noise'. "
         "Did you mean 'toy-dropout'?"),
        ("policy: {leakage_mx: 0.1}", "recipe.yaml:6: policy.leakage_mx: unknown field 'leakage_mx'. "
         "Did you mean 'leakage_max'?"),
        ("policy: {candidates: [toy-noise]}\ndefenses: [toy-dropout, {use: toy-noise, name: n}]",
         "recipe.yaml:6: policy.candidates.0: no entry of defenses is called 'toy-noise'. Did you mean 'toy-dropout'?"),
        ("policy: {leakage_max: [1]}", "recipe.yaml:6: policy.leakage_max: got [1], expected a mapping"),
        ("policy: no-such.yaml", "recipe.yaml:6: policy: no-such.yaml: there is no such file."),
        ("report: {images: all}", "recipe.yaml:6: report.images: 'all' puts images of patients into the report; confirm "
         "it with --patient-images on the command line."),
    ],
)  # fmt: skip
def test_one_mistake_one_line(load: Any, text: str, expected: str) -> None:
    assert messages(load, text + "\n") == [expected]


def test_all_mistakes_at_once(load: Any) -> None:
    wrong = "version: 2\nname: a b\nprotocols: []\nattacks: [{params: 3}]\nrun: {workers: few, executor: toy-executor}\n"
    found = messages(load, minimal=wrong)
    places = ["attacks.0.params", "attacks.0.use", "data", "name", "protocols", "run.workers", "version"]
    assert sorted(line.split(": ")[1] for line in found) == places
    assert found[-1] == "recipe.yaml:5: run.workers: got 'few', expected a valid integer or 'auto'"
    assert "recipe.yaml:2: name: got 'a b', which does not fit: Name of the audit: letters, digits and any of . _ - +." in found


def test_a_plugins_validator_that_crashes_is_the_plugins_fault(load: Any) -> None:
    with pytest.raises(RecipeError, match=r"attacks.0.params: the parameters of leakaudit-toys/toy-crashing 1.2.3") as caught:
        load("attacks: [{use: toy-crashing, params: {level: 1}}]\n")
    assert caught.value.exit_code == 5


def test_a_broken_plugin_that_the_recipe_names(load: Any, toys: Site) -> None:
    toys.install_attack("leakaudit-bad", "bad", before="import not_there")
    with pytest.raises(RecipeError, match=r"recipe.yaml:6: attacks.0.use: the attack 'bad' cannot be loaded") as caught:
        load("attacks: [bad]\n")
    assert caught.value.exit_code == 5
    assert load("attacks: [toy-inversion]\n").attacks[0].label == "toy-inversion"


def test_policy_file_beside_the_recipe(load: Any) -> None:
    Path("policy.yaml").write_text("leakage_max: {value: 0.2, owner: the board, reason: agreed}\n")
    assert load("policy: policy.yaml\n").policy.leakage_max.owner == "the board"
    Path("policy.yaml").write_text("min_patients: 36\nleakage_max: [1]\n")
    assert messages(load, "policy: policy.yaml\n")[0].startswith("policy.yaml:2: leakage_max: ")


def test_patient_images_when_confirmed(load: Any) -> None:
    assert load("report: {images: all}\n", allow_patient_images=True).report.images == "all"


VARIABLE = """\
version: 1
name: toy
data: {use: toy-data, params: {root: "${TOY_ROOT}/brats"}}
protocols: [toy-split]
run: {executor: toy-executor}
"""


def test_environment_variables_are_expanded_but_never_written(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOY_ROOT", "/secret/place")
    recipe = load(minimal=VARIABLE)
    assert recipe.data.params.root == "/secret/place/brats"
    assert recipe.document["data"]["params"] == {"root": "${TOY_ROOT}/brats", "patients": 60}
    digest = recipe.sha256
    monkeypatch.setenv("TOY_ROOT", "/elsewhere")
    assert load(minimal=VARIABLE).sha256 == digest


def test_environment_variable_that_is_not_set(load: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOY_ROOT", raising=False)
    text = "the environment variable TOY_ROOT is not set; set it, or give the value with --set."
    assert messages(load, minimal=VARIABLE) == [f"recipe.yaml:3: data.params.root: {text}"]
    assert load("", "data.params.root=/x", minimal=VARIABLE).data.params.root == "/x"


def test_overrides(load: Any) -> None:
    recipe = load(
        "",
        "repeats=5", "attacks.toy-picky.params.target=x", "defenses.noise-0.1.params.sigma=9", "attacks.0.params.iterations=3",
        "run.precision=mixed", "run.executor.params={}", "defenses.-1.name=both", "policy.leakage_max=0.3",
        minimal=FULL,
    )  # fmt: skip
    assert recipe.repeats == 5
    assert recipe.attacks[1].params.target == "x"
    assert recipe.attacks[0].params.iterations == 3
    assert recipe.defenses[1].links[0].params.sigma == 9
    assert recipe.defenses[2].label == "both"
    assert recipe.run.precision == "mixed"
    assert recipe.policy.leakage_max.value == 0.3
    replaced = load("", "defenses=[toy-noise]", "attacks.toy-picky.params={target: y}", "attacks.1.skip=", minimal=FULL)
    assert [choice.label for choice in replaced.defenses] == ["none", "toy-noise"]
    assert replaced.attacks[1].skip is None


def test_split_is_validated_too(load: Any) -> None:
    override = "data.split={members: many, atacked: 3}"
    assert messages(load, "", override) == [
        f"--set {override}: data.split.members: got 'many', expected a valid integer or a valid number",
        f"--set {override}: data.split.atacked: unknown field 'atacked'. Did you mean 'attacked'?",
    ]
    assert load("", "data.split.members=20").split.members == 20


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("repeats", "--set repeats: expected path=value"),
        ("repeat=3", "--set repeat=3: unknown field 'repeat'. Did you mean 'repeats'?"),
        ("attacks.toy-invertion.params.iterations=3", "attacks has no item 'toy-invertion'. Did you mean 'toy-inversion'?"),
        ("attacks.7.name=x", "attacks has 2 items, there is no item 7"),
        ("name.x=1", "name is the single value 'toy', there is nothing inside it"),
        ("attacks.0.params.iteration=3", "--set attacks.0.params.iteration=3: attacks.0.params.iteration: unknown field "
         "'iteration'. Did you mean 'iterations'?"),
        ("attacks.0.params.iterations=many", "--set attacks.0.params.iterations=many: attacks.0.params.iterations: got 'many'"),
        ("run.worker=3", "--set run.worker=3: run.worker: unknown field 'worker'. Did you mean 'workers'?"),
        ("repeats=!!python/none 1", "the tag '!!python/none' is not allowed"),
        ("repeats=[", "not valid YAML"),
    ],
)  # fmt: skip
def test_overrides_that_lead_nowhere(load: Any, override: str, expected: str) -> None:
    with pytest.raises(UserError) as caught:
        load("", override, minimal=FULL)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_override_into_a_section_that_is_not_there(load: Any) -> None:
    with pytest.raises(UserError, match="the recipe has no attacks"):
        load("", "attacks.0.name=x")
