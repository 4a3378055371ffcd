"""The data model: what it refuses, and that the committed schema is its own."""

from __future__ import annotations

import copy
import json
import math

import jsonschema
import pytest
from pydantic import ValidationError

from leakaudit.report.images import check_png, encode_png
from leakaudit.report.model import Report
from leakaudit.report.schema import committed_schema, report_schema, schema_text


def test_committed_schema_is_up_to_date():
    assert committed_schema() == schema_text(), "regenerate report.schema.json: write schema_text() into it"


@pytest.mark.parametrize("count", [1, 20])
def test_examples_satisfy_the_schema(factory, count):
    schema = json.loads(committed_schema())
    jsonschema.Draft7Validator.check_schema(schema)
    data = json.loads(factory.make_report(count).model_dump_json())
    assert list(jsonschema.Draft7Validator(schema).iter_errors(data)) == []
    assert Report.model_validate(data) == factory.make_report(count)


def test_schema_is_draft_07_described_and_closed():
    schema = report_schema()
    assert schema["$schema"].startswith("http://json-schema.org/draft-07/")
    assert "prefixItems" not in json.dumps(schema)
    for name, part in schema["definitions"].items():
        assert part["additionalProperties"] is False, name
        undescribed = [field for field, about in part["properties"].items() if not about.get("description")]
        assert undescribed == [], name


def test_unknown_field_is_refused(factory):
    data = factory.make_dict(1)
    data["pairings"][0]["staus"] = "PASS"
    with pytest.raises(ValidationError, match="staus"):
        Report.model_validate(data)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": None, "ci": None}, "needs a reason"),
        ({"value": math.nan}, "finite"),
        ({"value": math.inf}, "finite"),
        ({"value": None, "reason": "too few", "ci": [0.1, 0.2]}, "cannot have an interval"),
        ({"ci": [0.5, 0.1]}, "above its upper bound"),
        ({"ci": [0.1]}, "at least 2 items"),
    ],
)
def test_missing_numbers_are_null_with_a_reason(factory, change, message):
    data = factory.make_dict(1)
    data["pairings"][0]["endpoints"][0]["leakage"].update(change)
    with pytest.raises(ValidationError, match=message):
        Report.model_validate(data)


def test_a_hospital_identifier_is_no_pseudonym(factory):
    data = factory.make_dict(1)
    data["pairings"][0]["endpoints"][0]["leakage"]["per_patient"][0]["patient"] = "BraTS20_Training_001"
    with pytest.raises(ValidationError, match="pattern"):
        Report.model_validate(data)


def test_membership_by_patient_is_refused(factory):
    data = factory.make_dict(1)
    data["pairings"][0]["endpoints"][0]["kind"] = "membership"
    with pytest.raises(ValidationError, match="who was in the training set"):
        Report.model_validate(data)


def test_a_bad_status_needs_a_reason_and_pairings_are_unique(factory):
    data = factory.make_dict(1)
    data["pairings"][0]["status"] = "ERROR"
    with pytest.raises(ValidationError, match="status ERROR needs a reason"):
        Report.model_validate(data)
    data = factory.make_dict(1)
    data["pairings"].append(copy.deepcopy(data["pairings"][0]))
    with pytest.raises(ValidationError, match="occurs twice"):
        Report.model_validate(data)


def test_images_need_synthetic_or_public_data(factory):
    with pytest.raises(ValidationError, match="synthetic or public"):
        Report.model_validate(factory.make_dict(1, synthetic=False))
    data = factory.make_dict(1, synthetic=False)
    data["data"]["public"] = True
    assert Report.model_validate(data).pairings[0].images
    assert not factory.make_report(1, images=False, synthetic=False).pairings[0].images


def test_png_carries_pixels_and_nothing_else():
    import base64
    import struct
    import zlib

    good = encode_png([[0.0, 0.5], [1.0, 2.0]])
    check_png(good)
    raw = base64.b64decode(good)
    body = b"tEXtPatient\0Doe"
    text = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    tagged = raw[:33] + text + raw[33:]
    with pytest.raises(ValueError, match="pixels only"):
        check_png(base64.b64encode(tagged).decode())
    for bad in ("javascript:alert(1)", "", base64.b64encode(b"GIF89a").decode(), good[:40]):
        with pytest.raises(ValueError, match="image"):
            check_png(bad)
    with pytest.raises(ValueError, match="one length"):
        encode_png([[0.0], [0.0, 1.0]])


def test_png_pixels_survive():
    import base64
    import io

    image = pytest.importorskip("PIL.Image", reason="needs Pillow to decode")
    decoded = image.open(io.BytesIO(base64.b64decode(encode_png([[0.0, 0.5, 1.0], [1.0, 0.25, -3.0]]))))
    assert decoded.mode == "L"
    assert list(decoded.tobytes()) == [0, 128, 255, 255, 64, 0]
