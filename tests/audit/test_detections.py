"""Defenses that watch for tampering: alarms end a training early, are counted, and what crossed before them is still scored."""

from __future__ import annotations

import pytest

from leakaudit.wire.recording import MessageLog

from .conftest import Audit, Machine, attack, tiny

WATCHED = ("none", "watch", "late", "nervous")


@pytest.fixture(scope="module")
def audit(machine: Machine) -> Audit:
    recipe = tiny(
        "watched",
        defenses=[
            {"use": "toy-watch", "name": "watch"}, {"use": "toy-watch", "name": "late", "params": {"patience": 100}},
            {"use": "toy-watch", "name": "nervous", "params": {"nervous": True, "patience": 3}},
        ],
        attacks=[attack("toy-hijacker", defenses=WATCHED), attack("toy-guess", defenses=("nervous",))],
        repeats=2,
    )  # fmt: skip
    return machine.run(machine.write(recipe), machine.root / "watched")


def detections(audit: Audit) -> dict[tuple[str, str | None], dict[str, object]]:
    return {(d["defense"], d["attack"]): d for d in audit.report["detections"]}


def test_detection_rates_and_false_alarms_have_a_row_each(audit: Audit) -> None:
    rows = detections(audit)
    assert set(rows) == {(d, a) for d in WATCHED[1:] for a in (None, "toy-hijacker")}, "undefended trainings watch nothing"
    counts = {place: (row["alarms"], row["trainings"]) for place, row in rows.items()}
    assert counts["watch", None] == (0, 2)
    assert counts["watch", "toy-hijacker"] == (2, 2)
    assert counts["late", "toy-hijacker"] == (0, 2)
    assert counts["nervous", None] == (2, 2), "false alarms"
    low, high = rows["watch", "toy-hijacker"]["rate"]["ci"]
    assert low == pytest.approx(0.025**0.5), "Clopper-Pearson of 2 in 2"
    assert high == 1


def test_the_batches_lost_before_the_alarm_are_counted(audit: Audit) -> None:
    rows = detections(audit)
    # The first client sees the second hijacked gradient in the second of 2 rounds x 3 batches.
    assert rows["watch", "toy-hijacker"]["batches"] == [2, 2]
    assert rows["nervous", None]["batches"] == [3, 3]
    assert rows["watch", "toy-hijacker"]["planned"] == 6
    assert rows["late", "toy-hijacker"]["batches"] == []
    alarms = [a for a in audit.report["alarms"] if (a["defense"], a["attack"]) == ("watch", "toy-hijacker")]
    assert [(a["seat"], a["round"]) for a in alarms] == [("client-0", 0)] * 2
    assert "look hijacked" in alarms[0]["text"]


def test_what_crossed_before_the_alarm_is_scored_and_the_rest_leaks_nothing(audit: Audit) -> None:
    pairing = audit.pairing("toy-hijacker", "watch")
    assert pairing["endpoints"], pairing["reasons"]
    assert {e["leakage"]["patients"] for e in pairing["endpoints"]} == {8}, "nobody is dropped"
    label = "split/watch with toy-hijacker (repeat 1)"
    known = audit.data("attack", f"{label} by toy-hijacker", "attack.json")
    missing = known["truth"]["missing"]
    assert missing, "of ten members in batches of four some have not crossed after two"
    assert len(missing) + len(known["targets"]) == 8
    score = audit.data("score", f"{label} by toy-hijacker", "score.json")["evidence"][0]["endpoints"][0]
    for patient, value, chance in zip(score["patients"], score["score"], score["chance"], strict=True):
        assert (value == chance) == (patient in missing)


def test_a_stopped_training_keeps_the_last_crossing_of_every_sample_before_the_alarm(audit: Audit) -> None:
    stopped = audit.data("train", "split/nervous (repeat 1)", "train.json")["alarm"]
    assert stopped["batches"] == 3
    log = MessageLog(audit.folder("record", "split/nervous (repeat 1) for toy-guess") / "messages")
    assert {e["round"] for e in log.entries} == {0}, "it was to record the last round, which never came"
    tokens = [t for e in log.entries if e["sender"] == "client-0" for t in e["samples"]]
    assert len(tokens) == len(set(tokens)) == 8
    assert audit.pairing("toy-guess", "nervous")["endpoints"]
    whole = MessageLog(audit.folder("record", "split/late with toy-hijacker (repeat 1) for toy-hijacker") / "messages")
    assert {e["round"] for e in whole.entries} == {1}, "without an alarm nothing but the last round stays"


def test_the_page_has_a_row_for_each_server(audit: Audit) -> None:
    page = (audit.out / "report.html").read_text()
    section = page[page.index('id="detection"') :]
    section = section[: section.index("</section>")]
    assert section.count("an alarm is false") == 3
    assert section.count("an alarm is right") == 3
    assert section.count("2 of 2") == 3, "both false alarms and two detections"
