from typing import Any

import pytest

from tracking.mongo.deployment import find_refusal, list_warnings, parse_server_facts

LOCAL = "mongodb://127.0.0.1:27017/?replicaSet=rs0"


@pytest.mark.parametrize(
    ("hello", "sentence"),
    [
        ({"setName": "rs0", "isWritablePrimary": True}, None),
        ({"msg": "isdbgrid", "isWritablePrimary": True}, None),
        ({"serviceId": "65", "isWritablePrimary": True}, None),
        ({"isWritablePrimary": True}, "--replSet rs0"),
        ({"isreplicaset": True, "isWritablePrimary": False}, "run rs.initiate()"),
    ],
)
def test_only_what_has_transactions_is_taken(hello: dict[str, Any], sentence: str | None) -> None:
    refusal = find_refusal(parse_server_facts(hello, version="7.0.14"))
    assert (refusal is None) if sentence is None else sentence in str(refusal)


@pytest.mark.parametrize(
    ("version", "is_old"), [("4.4.29", True), ("6.0.5", True), ("7.0.14", False), ("8.0.0", False)]
)
def test_an_old_server_is_warned_about(version: str, is_old: bool) -> None:
    facts = parse_server_facts({"setName": "rs0"}, version=version)
    assert [version in warning for warning in list_warnings(facts, uri=LOCAL)] == [True] * is_old


CLOUD = "mongodb+srv://user:secret@cluster.example.test/"
HOST = "mongodb://user:secret@db.example.test/"


@pytest.mark.parametrize(
    ("uri", "is_clear"),
    [
        *[(LOCAL, False), ("mongodb://localhost,127.0.0.1:27018/", False)],
        ("mongodb://%2Ftmp%2Fmongodb.sock/", False),
        ("mongodb://127.0.0.1,db.example.test/", True),
        *[(HOST, True), (f"{HOST}?tls=true", False), (f"{HOST}?ssl=true", False)],
        *[(f"{HOST}?tls=false", True), (CLOUD, False), (f"{CLOUD}?tls=false", True)],
    ],
)
def test_a_uri_without_tls_is_warned_about_and_never_quoted(uri: str, is_clear: bool) -> None:
    facts = parse_server_facts({"setName": "rs0"}, version="7.0.14")
    warnings = list_warnings(facts, uri=uri)
    assert ["TLS" in warning for warning in warnings] == [True] * is_clear
    assert not any("secret" in warning or "example" in warning for warning in warnings)
