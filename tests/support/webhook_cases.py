"""What every webhook test has: how a delivery is posted, and the security cases it inherits."""

import hashlib
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from pymongo.database import Database

from automations.rules.cache import get_rules_cache
from tests.support.oracle import recount
from tests.support.uncounted import count_everything

PATH = "/api/webhooks/instagram"
PAYLOADS = Path(__file__).parents[1] / "payloads"
PAYLOAD_NAMES = sorted(path.stem for path in PAYLOADS.iterdir())

# Those of tests/conftest.py: the secret in use, and the one before it that still counts.
SECRET, OLD_SECRET = "test-app-secret", "test-old-secret"
# The accounts of the payload files.
ACCOUNTS = ("17841400000000001", "17841400000000002")
TYPES = ("comment_to_dm", "story_reply", "dm_auto_responder")
CREATED_AT = datetime(2025, 1, 1, tzinfo=UTC)

Document = dict[str, Any]
Response = HttpResponse


def read_payload(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


def sign(body: bytes, secret: str = SECRET) -> str:
    return "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()


def post_body(body: bytes, **headers: str | None) -> Response:
    """Post a body as it is, signed unless `signature` is given; None sends no such header."""
    signature = headers.pop("signature", sign(body))
    sent = {name: value for name, value in headers.items() if value is not None}
    if signature is not None:
        sent["X-Hub-Signature-256"] = signature
    return Client().post(PATH, body, content_type="application/json", headers=sent)


def build_comment(number: int, **changes: Any) -> Document:
    """The value of one comment, of its own person unless the changes name one."""
    return {
        "id": f"1790000000000{number:04}",
        "from": {"id": f"8800000000{number:06}", "username": "ana.example"},
        "media": {"id": "18050000000000001", "media_product_type": "FEED"},
        "text": "Price please!",
        **changes,
    }


def build_body(*comments: Document, account_id: str = ACCOUNTS[0]) -> bytes:
    changes = [{"field": "comments", "value": comment} for comment in comments]
    entry = {"id": account_id, "time": 1763893800, "changes": changes}
    return json.dumps({"object": "instagram", "entry": [entry]}).encode()


def build_automation(key: Any, **changes: Any) -> Document:
    """An automation that answers every comment of the payload files, in the live shape."""
    return {
        "_id": key,
        "workspaceId": "ws1",
        "accountId": ACCOUNTS[0],
        "name": "Link",
        "type": TYPES[0],
        "isActive": True,
        "trigger": {"match": "any"},
        "mainDm": {"text": "Here it is"},
        "totalRuns": 0,
        "lastRunAt": None,
        "createdAt": CREATED_AT,
        "updatedAt": CREATED_AT,
        **changes,
    }


class WebhookCases:
    """The base of every webhook test: whatever a class is about, nobody but Meta gets in.

    `payload` is a file of tests/payloads with an event that some automation answers.
    """

    payload = "comments__feed"
    db: Database[Document]

    @pytest.fixture(autouse=True)
    def _use_db(self, db: Database[Document]) -> None:
        self.db = db

    def insert_automations(self) -> None:
        """For each account of the payload files, one automation of each type for any text."""
        self.db["automations"].insert_many(
            build_automation(f"{account_id}:{type_}", accountId=account_id, type=type_)
            for account_id in ACCOUNTS
            for type_ in TYPES
        )

    def post_delivery(self, name: str) -> Response:
        """Post a payload file, to automations that answer whatever can be answered."""
        if not self.db["automations"].find_one({}):
            self.insert_automations()
        return post_body(read_payload(name))

    def change_automation(self, key: Any, **changes: Any) -> None:
        """Change a rule as another program would; what a second would bring comes at once."""
        self.db["automations"].update_one({"_id": key}, {"$set": changes})
        get_rules_cache().refresh()

    def count(self) -> None:
        if self.db["automation_triggers"].find_one({"partition": {"$gte": 0}}) is not None:
            count_everything(self.db)

    def recount(self) -> list[str]:
        """Every promise about counts that does not hold, once everything is counted."""
        self.count()
        return recount(self.db)

    def list_stored(self, name: str) -> list[Document]:
        self.count()
        return list(self.db[name].find().sort("_id", 1))

    def assert_refused(self, response: Response) -> None:
        assert response.status_code == 403
        assert response["Content-Type"].startswith("text/plain")
        assert self.list_stored("automation_triggers") == []
        assert self.list_stored("webhook_dead_letters") == []

    @pytest.fixture
    def signed_body(self) -> bytes:
        """A body that would start an automation if it were let in."""
        self.insert_automations()
        return read_payload(self.payload)

    def test_right_signature_gets_in(self, signed_body: bytes) -> None:
        assert post_body(signed_body).status_code == 200
        assert self.list_stored("automation_triggers")

    def test_old_secret_of_a_rotation_gets_in(self, signed_body: bytes) -> None:
        assert post_body(signed_body, signature=sign(signed_body, OLD_SECRET)).status_code == 200
        assert self.list_stored("automation_triggers")

    def test_missing_signature_is_refused(self, signed_body: bytes) -> None:
        self.assert_refused(post_body(signed_body, signature=None))

    def test_sha1_header_of_old_is_refused(self, signed_body: bytes) -> None:
        digest = hmac.new(SECRET.encode(), signed_body, hashlib.sha1).hexdigest()
        old = {"X-Hub-Signature": f"sha1={digest}"}
        self.assert_refused(post_body(signed_body, signature=None, **old))

    def test_body_with_one_bit_changed_is_refused(self, signed_body: bytes) -> None:
        changed = bytes([signed_body[0] ^ 1]) + signed_body[1:]
        self.assert_refused(post_body(changed, signature=sign(signed_body)))
        longer = signed_body + b" "
        self.assert_refused(post_body(longer, signature=sign(signed_body)))

    def test_wrong_signature_is_refused(self, signed_body: bytes) -> None:
        """tests/unit/instagram/test_signature.py has more of them."""
        wrong = (sign(signed_body, "guess"), "", f"sha256={'é' * 64}", "sha256=\ud800")
        for signature in wrong:
            self.assert_refused(post_body(signed_body, signature=signature))

    @pytest.mark.parametrize("secrets", [(), ("",)])
    def test_nothing_gets_in_without_a_secret(
        self, signed_body: bytes, settings: Any, secrets: tuple[str, ...]
    ) -> None:
        settings.INSTAGRAM_APP_SECRETS = secrets
        self.assert_refused(post_body(signed_body))
        self.assert_refused(post_body(signed_body, signature=sign(signed_body, "")))
