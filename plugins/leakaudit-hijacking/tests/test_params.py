"""Parameters: presets, what each attack asks for, and where it has no meaning."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from leakaudit_hijacking.hijack_params import FeatureSpaceHijackParams
from leakaudit_hijacking.sdar_params import PcatParams, SdarParams

from leakaudit.facts import CohortFacts
from leakaudit.protocols.params import CentralizedParams, FederatedParams, SplitParams
from leakaudit.threats import NotApplicable, Requires, Tap

COHORT = CohortFacts(modalities=("flair", "t1", "t1ce", "t2"), shape=(32, 32), members=8, auxiliary=8, sites=("site-0",), records=8)
ALL = (FeatureSpaceHijackParams, SdarParams, PcatParams)


def test_the_default_preset_is_what_was_published() -> None:
    p = FeatureSpaceHijackParams()
    assert (p.pilot_rate, p.decoder_rate, p.critic_rate, p.penalty, p.penalty_norm) == (1e-5, 1e-5, 1e-4, 500, "channel")
    assert (p.pilot, p.decoder, p.critic_width, p.critic_blocks, p.pilot_frozen) == ("linear", "linear", 256, 6, False)
    s = SdarParams()
    assert (s.feature_weight, s.image_weight, s.simulator_rate, s.decoder_rate) == (0.02, 1e-5, 1e-3, 5e-4)
    assert s.feature_rate == pytest.approx(s.simulator_rate * s.feature_weight)
    assert s.image_rate == pytest.approx(s.decoder_rate * s.image_weight)
    assert s.label_flip == 0.2


def test_a_preset_fills_in_and_what_is_stated_wins() -> None:
    quick = FeatureSpaceHijackParams(preset="quick", penalty=3.0)
    assert quick.penalty == 3.0
    assert quick.pilot_frozen
    assert quick.pilot_iterations == 150
    assert FeatureSpaceHijackParams.model_validate(quick.key()) == quick


def test_pcat_is_sdar_with_other_defaults() -> None:
    assert PcatParams().key() == SdarParams(feature_weight=0, image_weight=0).key()
    assert PcatParams(preset="quick").key() == SdarParams(preset="quick", feature_weight=0, image_weight=0).key()


def test_an_unknown_preset_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="published"):
        SdarParams(preset="fast")


def test_the_hijacker_alters_replies_and_knows_no_network() -> None:
    asked = FeatureSpaceHijackParams(levels=("level1",), draws=2).requires(SplitParams().facts(COHORT))
    assert isinstance(asked, Requires)
    assert asked.threat.alters == ("replies",)
    assert asked.threat.knows == ("sample-ids",)
    assert asked.plays_in_training
    assert asked.taps == (Tap(channel="activation", rounds=(-1, -2), names=("level1",)),)


def test_a_hijacker_that_replies_honestly_is_passive() -> None:
    asked = FeatureSpaceHijackParams(task_weight=1).requires(SplitParams().facts(COHORT))
    assert isinstance(asked, Requires)
    assert asked.threat.passive


@pytest.mark.parametrize(
    ("labels", "condition", "channels"),
    [
        ("server", "auto", ("activation",)), ("u-shaped", "auto", ("activation",)),
        ("sent", "auto", ("activation", "label")), ("sent", "predictions", ("activation",)),
    ],
)  # fmt: skip
def test_the_rider_is_passive_and_sees_masks_only_where_they_cross(labels: Any, condition: Any, channels: Any) -> None:
    asked = SdarParams(condition=condition).requires(SplitParams(labels=labels).facts(COHORT))
    assert isinstance(asked, Requires)
    assert asked.threat.passive
    assert asked.threat.channels == channels
    assert "weights" not in asked.threat.knows
    assert tuple(tap.channel for tap in asked.taps) == channels


@pytest.mark.parametrize("params", ALL)
@pytest.mark.parametrize(
    ("given", "protocol", "words"),
    [
        ({}, CentralizedParams(), "trades activations"),
        ({}, FederatedParams(), "trades activations"),
        ({"clients": ["client-9"]}, SplitParams(), "there are client-0, client-1"),
        ({"levels": ["level7"]}, SplitParams(), "what crosses is level0, level1"),
    ],
)
def test_where_it_has_no_meaning_it_says_why(params: Any, given: Any, protocol: Any, words: str) -> None:
    answer = params(**given).requires(protocol.facts(COHORT))
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


@pytest.mark.parametrize("params", ALL)
@pytest.mark.parametrize("clients", [[["t1ce"], ["flair", "t1"]], [["flair", "t1", "t1ce"], ["t2"]], [["t2"], ["flair"]]])
def test_it_applies_however_the_clients_share_the_modalities(params: Any, clients: Any) -> None:
    assert isinstance(params().requires(SplitParams(clients=clients).facts(COHORT)), Requires)


@pytest.mark.parametrize(
    ("labels", "condition", "resolved"),
    [
        ("server", "auto", "predictions"), ("sent", "auto", "labels"), ("u-shaped", "auto", "none"),
        ("sent", "predictions", "predictions"),
    ],
)  # fmt: skip
def test_auto_is_the_best_condition_that_the_protocol_offers(labels: Any, condition: Any, resolved: str) -> None:
    assert SdarParams(condition=condition).resolved(SplitParams(labels=labels).facts(COHORT)) == resolved


@pytest.mark.parametrize(
    ("given", "labels", "words"),
    [({"condition": "labels"}, "server", "no masks are sent"), ({"condition": "predictions"}, "u-shaped", "head of a U-shaped")],
)
def test_a_condition_that_cannot_be_had_is_named(given: Any, labels: Any, words: str) -> None:
    answer = SdarParams(**given).requires(SplitParams(labels=labels).facts(COHORT))
    assert isinstance(answer, NotApplicable)
    assert words in answer.reason


def test_the_descriptors_are_listed_without_torch() -> None:
    code = (
        "import sys; from leakaudit_hijacking.plugin import leakaudit_attacks as a; names = [i.name for i in a()]; "
        "assert 'torch' not in sys.modules; print(*names)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["feature-space-hijack", "sdar", "pcat"]
