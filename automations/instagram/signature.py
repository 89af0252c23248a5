"""Meta's signature of a delivery: HMAC-SHA256 of the raw body with the app secret.

The body is signed as it was sent, with every non-ASCII character as \\uXXXX: it is never written
again before it is checked. Sources disagree on whether the Instagram login signs with the Meta app
secret or the Instagram app secret, so a list is accepted, which also serves rotation.
https://developers.facebook.com/docs/graph-api/webhooks/getting-started#validate-payloads
"""

import hashlib
import hmac
from collections.abc import Sequence

PREFIX = b"sha256="


class InvalidSignature(Exception):
    """The delivery does not prove that Meta sent it. The message says why, and no secret."""


def verify_signature(body: bytes, header: str | None, secrets: Sequence[str]) -> None:
    """Return if `header` (X-Hub-Signature-256) signs `body` with one of `secrets`.

    Raises InvalidSignature otherwise. Always tries every secret, and compares bytes in constant
    time: compare_digest on `str` raises on a header that is not ASCII. Empty secrets never match.
    """
    usable = [secret.encode() for secret in secrets if secret]
    if not usable:
        raise InvalidSignature("no app secret is set: set INSTAGRAM_APP_SECRET")
    if not header:
        raise InvalidSignature("the header X-Hub-Signature-256 is missing")
    given = header.encode("utf-8", "surrogatepass")
    is_valid = False
    for secret in usable:
        expected = PREFIX + hmac.new(secret, body, hashlib.sha256).hexdigest().encode("ascii")
        is_valid |= hmac.compare_digest(given, expected)
    if not is_valid:
        raise InvalidSignature("the signature matches no app secret in INSTAGRAM_APP_SECRET")
