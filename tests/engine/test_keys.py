from __future__ import annotations

import subprocess
import sys

import pytest

from leakaudit.engine.keys import canonical_json, digest, environment


def test_canonical_json_ignores_order_and_list_type() -> None:
    assert canonical_json({"b": (1, 2.5), "a": None}) == canonical_json({"a": None, "b": [1, 2.5]}) == '{"a":null,"b":[1,2.5]}'
    assert digest({"ä": True}) == digest({"ä": True})
    assert digest(1) != digest(1.0)
    assert len(digest({})) == 64


@pytest.mark.parametrize("value", [{1, 2}, object(), b"x", {1: "x"}])
def test_what_has_no_canonical_form_is_refused_with_its_place(value: object) -> None:
    with pytest.raises(TypeError, match=r"value\.deep\[1\]"):
        canonical_json({"deep": [0, value]})


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_floats_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value\.x"):
        canonical_json({"x": value})


def test_environment_tells_threads_and_device_classes_apart_without_torch() -> None:
    code = (
        "import sys; from leakaudit.engine.keys import digest, environment as e;"
        "assert e('cuda:0', 1, True) == e('cuda:1', 1, True);"
        "assert len({digest(e(d, t, f)) for d in ('cpu', 'cuda') for t in (1, 2) for f in (True, False)}) == 8;"
        "assert 'torch' not in sys.modules; import leakaudit.engine.executors, leakaudit.engine.progress;"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert environment("cpu", 2, True)["threads"] == 2
