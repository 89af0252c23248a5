"""Meta's signed request, as its data deletion callback posts it. Pure.

`<signature>.<payload>`, both base64url: HMAC-SHA256 of the payload's text with the app secret, and
JSON with `user_id`, `algorithm` and `issued_at`.
https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback
"""

from __future__ import annotations

import binascii
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from hashlib import sha256

import orjson

from automations.instagram.signature import InvalidSignature

LONGEST = 4096
ALGORITHM = "HMAC-SHA256"


class MalformedRequest(ValueError):
    """It is signed by Meta, and does not say whom it is about."""


def parse_signed_request(text: str, secrets: Sequence[str]) -> str:
    """Return the id of the person who asks.

    Raises InvalidSignature unless one of `secrets` signed it, and MalformedRequest.
    """
    signature, _, payload = text.partition(".")
    given = _decode(signature)
    signed = payload.encode("utf-8", "surrogatepass")
    is_valid = False
    for secret in filter(None, secrets):
        expected = hmac.digest(secret.encode(), signed, sha256)
        is_valid |= given is not None and hmac.compare_digest(given, expected)
    if not is_valid or len(text) > LONGEST:
        raise InvalidSignature("the signed request matches no app secret in INSTAGRAM_APP_SECRET")
    content = _decode(payload)
    try:
        fields = orjson.loads(content or b"")
        algorithm, person_id = fields["algorithm"], fields["user_id"]
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise MalformedRequest("the signed request should hold algorithm and user_id") from error
    if not isinstance(algorithm, str) or algorithm.upper() != ALGORITHM:
        raise MalformedRequest(f"algorithm should be {ALGORITHM}")
    if isinstance(person_id, bool) or not isinstance(person_id, str | int) or not str(person_id):
        raise MalformedRequest("user_id should be an id")
    return str(person_id)


def _decode(text: str) -> bytes | None:
    try:
        # Meta leaves the padding away, or not.
        return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        return None
