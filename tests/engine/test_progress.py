from __future__ import annotations

import io

import pytest

from leakaudit.engine.jobs import Job, Outcome
from leakaudit.engine.progress import Estimate, ProgressDisplay, duration
from leakaudit.engine.scheduler import Event


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def jobs(count: int, kind: str = "train") -> list[Job]:
    return [Job(f"{kind}{i:02d}", kind, f"split/{i}", {}) for i in range(count)]


def show(display: ProgressDisplay, plan: list[Job], outcomes: list[Outcome]) -> None:
    with display:
        for job in plan:
            display(Event("planned", job))
        for job, outcome in zip(plan, outcomes, strict=False):
            display(Event("started", job))
            display(Event("progress", job, data={"done": 1, "total": 4}))
            display(Event("ended", job, outcome))


def test_plain_lines_elsewhere_than_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    plan = jobs(12)
    outcomes = [
        Outcome(plan[0].key, "ok", cached=True),
        Outcome(plan[1].key, "ok", seconds=12.34),
        Outcome(plan[2].key, "timeout", "Too slow.", 100),
    ]
    show(ProgressDisplay(), plan, outcomes)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        "[ 1/12] train split/0 ... cached",
        "[ 2/12] train split/1 ... ok 12.3 s, about 2 min left",
        "[ 3/12] train split/2 ... timeout 2 min (Too slow.), about 2 min left",
    ]


def test_a_second_phase_goes_on_counting(capsys: pytest.CaptureFixture[str]) -> None:
    first, more = jobs(1), jobs(2, "attack")
    display = ProgressDisplay()
    with display:
        for plan in (first, more):
            for job in plan:
                display(Event("planned", job))
            for job in plan:
                display(Event("started", job))
                display(Event("ended", job, Outcome(job.key, "ok", seconds=2)))
    assert capsys.readouterr().err.splitlines() == [
        "[1/1] train split/0 ... ok 2.0 s",
        "[2/3] attack split/0 ... ok 2.0 s, about 2.0 s left",
        "[3/3] attack split/1 ... ok 2.0 s",
    ]


def test_bar_on_a_terminal_shows_only_failures_as_lines(capsys: pytest.CaptureFixture[str]) -> None:
    plan, stream = jobs(3), Terminal()
    outcomes = [Outcome(plan[0].key, "ok", seconds=5), Outcome(plan[1].key, "error", "It [raised].", 1)]
    show(ProgressDisplay(stream=stream), plan, outcomes)
    assert "[2/3] train split/1 ... error 1.0 s (It [raised].)" in stream.getvalue()
    assert "[1/3] train split/0" not in stream.getvalue()
    assert "2/3" in stream.getvalue()
    assert "about 5.0 s left" in stream.getvalue()
    assert capsys.readouterr().out == ""


def test_estimate_goes_by_kind_and_ignores_cached_jobs() -> None:
    trains, attacks = jobs(4), jobs(4, "attack")
    estimate = Estimate(slots=2)
    for job in [*trains, *attacks]:
        estimate.add(job)
    estimate.end(trains[0], Outcome(trains[0].key, "ok", cached=True))
    assert estimate.seconds_left() is None
    estimate.end(trains[1], Outcome(trains[1].key, "ok", seconds=10))
    assert estimate.seconds_left() == pytest.approx((2 * 10 + 4 * 10) / 2)
    estimate.end(attacks[0], Outcome(attacks[0].key, "ok", seconds=2))
    assert estimate.seconds_left() == pytest.approx((2 * 10 + 3 * 2) / 2)


def test_durations_are_written_for_people() -> None:
    assert [duration(s) for s in (0.04, 12.34, 45, 150, 7500)] == ["0.0 s", "12.3 s", "45 s", "2 min", "2 h 05 min"]
