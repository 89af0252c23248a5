"""Who reads the database, or a log, holds no key to anything."""

import hashlib
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from cryptography.fernet import Fernet
from django.conf import settings as django_settings
from django.test import Client
from pymongo.database import Database

from automations.accounts import accounts
from automations.auth.tokens import create_token
from tests.support.webhook_cases import (
    SECRET,
    build_automation,
    build_body,
    build_comment,
    post_body,
)

ACCESS_TOKEN = "IGAAverysecretaccesstoken"


def read_everything(db: Database[dict[str, Any]]) -> bytes:
    """Every document of the database, as its bytes."""
    options = bson.CodecOptions(document_class=RawBSONDocument)
    return b"".join(
        document.raw
        for name in db.list_collection_names()
        for document in db.get_collection(name, codec_options=options).find()
    )


def test_no_secret_is_stored_or_logged_in_clear(
    db: Database[dict[str, Any]], settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    key = Fernet.generate_key().decode()
    settings.FIELD_ENCRYPTION_KEYS = (key,)
    at = datetime.now(UTC)
    db["automations"].insert_one(build_automation("a"))
    accounts.add_account("17841400000000001", workspace_id="ws1", token=ACCESS_TOKEN, at=at)
    api_token, _ = create_token(workspace_id="ws1", at=at)
    browser = Client()
    assert browser.post("/login", {"token": api_token}).status_code == 302
    session = browser.cookies["sessionid"].value
    assert browser.get("/api/workspaces/ws1/automations").status_code == 200
    wrong = Client(headers={"authorization": "Bearer art_wrong-but-secret"})
    assert wrong.get("/api/workspaces/ws1/automations").status_code == 401
    verify = "hub.mode=subscribe&hub.verify_token=almost-the-verify-token"
    assert browser.get(f"/api/webhooks/instagram?{verify}").status_code == 403
    assert post_body(build_body(build_comment(1))).status_code == 200
    stored, logged = read_everything(db), caplog.text
    assert b"17841400000000001" in stored
    secrets = (ACCESS_TOKEN, api_token, session, key, SECRET, django_settings.SECRET_KEY)
    for secret in secrets:
        assert secret.encode() not in stored
        assert secret not in logged
    assert "art_wrong" not in logged
    assert "almost-the-verify-token" not in logged
    # What is stored instead opens nothing by itself.
    for kept in (hashlib.sha256(api_token.encode()), hashlib.sha256(session.encode())):
        assert kept.hexdigest().encode() in stored
        thief = Client(headers={"authorization": f"Bearer {kept.hexdigest()}"})
        thief.cookies["sessionid"] = kept.hexdigest()
        assert thief.get("/api/workspaces/ws1/automations").status_code == 401
