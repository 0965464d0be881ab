"""Checks the document of an interface, and what was really sent, against OpenAPI 3.1 and its JSON Schema.

It reads {"document": …, "answers": [{"request": "GET /api/status", "code": 200, "kind": "application/json",
"sent": …, "body": …}]} and prints what is wrong, as JSON.
"""

import json
import sys
from typing import Any

from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator


def parts_of(value: object) -> set[str]:
    """The schemas that are a part of others: these have more keys."""
    if isinstance(value, list):
        return set().union(*map(parts_of, value))
    if not isinstance(value, dict):
        return set()
    own = {entry["$ref"].split("/")[-1] for entry in value.get("allOf", []) if "$ref" in entry}
    return own.union(*map(parts_of, value.values()))


def strict(document: dict[str, Any]) -> dict[str, Any]:
    """The schemas, which no undocumented key fits."""
    schemas = document["components"]["schemas"]
    loose = parts_of(schemas)
    return {
        name: {**schema, "unevaluatedProperties": False} if schema and name not in loose else schema
        for name, schema in schemas.items()
    }


def main() -> None:
    asked = json.load(sys.stdin)
    document = asked["document"]
    wrong = [f"document: {error.message}" for error in OpenAPIV31SpecValidator(document).iter_errors()]
    components = {"schemas": strict(document)}

    def compare(value: object, content: dict[str, Any], where: str) -> None:
        schema = {**content.get("schema", {}), "components": components}
        for error in Draft202012Validator(schema).iter_errors(value):
            wrong.append(f"{where}: {error.json_path}: {error.message[:300]}")

    for answer in asked["answers"]:
        method, path = answer["request"].split(" ")
        where = f"{answer['request']} {answer['code']}"
        operation = document["paths"].get(path, {}).get(method.lower())
        if operation is None:
            wrong.append(f"{where}: not in the document")
            continue
        content = operation["responses"].get(str(answer["code"]), {}).get("content", {})
        if answer["kind"] not in content:
            wrong.append(f"{where}: no answer of the kind {answer['kind']} is in the document")
        elif answer["kind"] == "application/json":
            compare(answer["body"], content[answer["kind"]], where)
        # A body that was refused need not fit.
        if answer.get("sent") is not None and answer["code"] == 200:
            compare(answer["sent"], operation["requestBody"]["content"]["application/json"], f"{where}, sent")
    print(json.dumps(wrong))


main()
