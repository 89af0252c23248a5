import re
from io import StringIO
from typing import Any

import jsonschema
import pytest
from django.core.management import call_command
from django.test import Client
from drf_spectacular.generators import SchemaGenerator

SCHEMA: Any = SchemaGenerator().get_schema(request=None, public=True)
FOUND = {
    operation["operationId"]: operation
    for methods in SCHEMA["paths"].values()
    for operation in methods.values()
}


def test_the_schema_is_valid_and_without_a_warning() -> None:
    call_command("spectacular", "--validate", "--fail-on-warn", stdout=StringIO())


def test_every_operation_is_described() -> None:
    assert len(FOUND) == 17
    for operation in FOUND.values():
        assert operation["summary"], operation
        assert not re.search(r"_(list|retrieve|create|update|destroy)$", operation["operationId"])


def test_every_field_of_an_answer_has_a_type_and_an_example_that_fits() -> None:
    for name in ("Automation", "Run", "Series", "Outcomes", "Account"):
        for field, schema in SCHEMA["components"]["schemas"][f"{name}Answer"]["properties"].items():
            assert {"type", "anyOf", "$ref"} & schema.keys(), (name, field)
    for operation in FOUND.values():
        for response in operation["responses"].values():
            [content] = response["content"].values()
            [example] = content["examples"].values()
            jsonschema.validate(example["value"], {**content["schema"], **SCHEMA})
            assert example["value"]
        body = operation.get("requestBody")
        assert body is None or body["content"]["application/json"]["examples"]


def test_documents_keep_fields_that_the_schema_does_not_know() -> None:
    components = SCHEMA["components"]["schemas"]
    for name in ("AutomationAnswer", "RunAnswer", "MetadataAnswer", "TriggerPart"):
        assert components[name]["additionalProperties"] is True
    assert "additionalProperties" not in components["Stats"]


def test_the_page_loads_nothing_from_elsewhere_and_has_no_script_inside(client: Client) -> None:
    page = client.get("/api/docs")
    assert page.status_code == 200
    text = page.content.decode()
    assert not re.findall(r"(?:src|href)=\"(?:https?:)?//", text)
    assert "<script>" not in text
    assert "script-src" not in page["Content-Security-Policy"]  # so that default-src holds
    loaded = re.findall(r"(?:src|href)=\"(/[^\"]+)\"", text)
    assert len(loaded) == 5
    for path in loaded:
        response = client.get(path.replace("&amp;", "&"))
        assert response.status_code == 200, path
        response.close()
    [script] = [path for path in loaded if "script" in path]
    assert '"validatorUrl": null' in client.get(script).content.decode()


@pytest.mark.parametrize("path", ["/api/", "/api/nothing", "/api/workspaces/ws1", "/api/docs/x"])
@pytest.mark.parametrize("method", ["get", "post", "delete", "options"])
def test_an_unknown_path_is_404_of_the_api(client: Client, path: str, method: str) -> None:
    response = getattr(client, method)(path, headers={"accept": "text/html"})
    assert response.status_code == 404
    error = {"code": "not_found", "message": "Not found.", "field": None}
    assert response.json() == {"success": False, "error": error}
