"""The JSON Schema of `report.json`, generated from the data model and committed beside it."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from leakaudit.report.model import SCHEMA_VERSION, Report

__all__ = ["committed_schema", "report_schema", "schema_text"]


def report_schema() -> dict[str, Any]:
    """Return the schema: draft-07 compatible, fields described, unknown fields refused."""
    schema = Report.model_json_schema(ref_template="#/definitions/{model}", mode="validation")
    definitions = schema.pop("$defs")
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$id": f"urn:leakaudit:report:{SCHEMA_VERSION}",
        **schema,
        "title": f"leakaudit report.json, schema version {SCHEMA_VERSION}",
        "definitions": definitions,
    }


def schema_text() -> str:
    """Return the schema as it is committed: indented JSON with a final newline."""
    return json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n"


def committed_schema() -> str:
    """Return the committed `report.schema.json` of the installed package."""
    return (resources.files("leakaudit.report") / "report.schema.json").read_text(encoding="utf-8")
