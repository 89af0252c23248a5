"""What Meta signs with the app secret: deliveries, and requests to delete data.

A delivery is signed as it was sent, with every non-ASCII character as \\uXXXX, so it is never
written again before it is checked. Sources disagree on whether the Instagram login signs with the
Meta app secret or the Instagram app secret, so a list is accepted, which also serves rotation.
https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads

A signed request is `<signature>.<payload>`, both base64url: HMAC-SHA256 of the payload's text, and
JSON with `user_id`, `algorithm` and `issued_at`.
https://developers.facebook.com/docs/development/create-an-app/app-dashboard/data-deletion-callback
"""

import binascii
import hmac
from base64 import urlsafe_b64decode
from collections.abc import Sequence
from hashlib import sha256

import orjson

PREFIX = b"sha256="
LONGEST_REQUEST = 4096
ALGORITHM = "HMAC-SHA256"


class InvalidSignature(Exception):
    """Nothing proves that Meta sent it; the message holds no secret."""


class MalformedRequest(ValueError):
    """It is signed by Meta, and does not say whom it is about."""


def verify_signature(body: bytes, header: str | None, secrets: Sequence[str]) -> None:
    """Return if `header` (X-Hub-Signature-256) signs `body` with one of `secrets`.

    Raises InvalidSignature otherwise. Always tries every secret, in constant time, and compares
    bytes, because compare_digest raises on a `str` that is not ASCII. Empty secrets never match.
    """
    if not any(secrets):
        raise InvalidSignature("no app secret is set: set INSTAGRAM_APP_SECRET")
    if not header:
        raise InvalidSignature("the header X-Hub-Signature-256 is missing")
    given = header.encode("utf-8", "surrogatepass")
    expected = [PREFIX + digest.hex().encode("ascii") for digest in _sign(body, secrets)]
    if not any([hmac.compare_digest(given, one) for one in expected]):  # noqa: C419 - all
        raise InvalidSignature("the signature matches no app secret in INSTAGRAM_APP_SECRET")


def parse_signed_request(text: str, secrets: Sequence[str]) -> str:
    """Return the id of the person who asks. Raises InvalidSignature and MalformedRequest."""
    signature, _, payload = text.partition(".")
    given = _decode(signature)
    signed = payload.encode("utf-8", "surrogatepass")
    matches = [hmac.compare_digest(given or b"", one) for one in _sign(signed, secrets)]
    if not any(matches) or len(text) > LONGEST_REQUEST:
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


def _sign(content: bytes, secrets: Sequence[str]) -> list[bytes]:
    return [hmac.digest(secret.encode(), content, sha256) for secret in secrets if secret]


def _decode(text: str) -> bytes | None:
    try:
        # Meta omits the padding, or not.
        return urlsafe_b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4))
    except (binascii.Error, ValueError):
        return None
