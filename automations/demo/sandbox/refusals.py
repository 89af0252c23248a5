"""Meta's refusals: one row for each rule that the stand-in keeps.

https://developers.facebook.com/docs/messenger-platform/error-codes
https://developers.facebook.com/docs/graph-api/guides/error-handling
"""

from typing import Any

# Name -> code, subcode, message. The lengths, windows and rates behind them, with their sources,
# are in automations/instagram/limits.py.
ERRORS: dict[str, tuple[int, int | None, str]] = {
    "bad_token": (190, None, "Invalid OAuth access token - Cannot parse {token}"),
    "rate": (613, None, "Calls to this api have exceeded the rate limit."),
    "outside_window": (10, 2534022, "This message is sent outside of allowed window."),
    "conflict": (10, 2018300, "Another app is controlling this thread now."),
    "restricted": (10, 1893063, "This account is restricted."),
    "already_replied": (100, 2534025, "This comment was already replied to."),
    "no_object": (100, 33, "Unsupported request. Object does not exist."),
    "bad_parameter": (100, None, "Invalid parameter"),
    "unavailable": (551, None, "This person isn't available right now."),
    "no_consent": (230, None, "User consent is required to access user profile."),
    "server": (2, None, "An unexpected error has occurred. Please retry later."),
}


class Refused(Exception):
    """A call that is answered with an error; `name` is a key of the table."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}")
        self.code, self._subcode, self._message = ERRORS[name]
        self._detail = detail and f": {detail}"
        # Meta answers 400 where others would answer 401 or 429.
        self.status = 500 if name == "server" else 400

    def build_body(self, *, token: str) -> dict[str, Any]:
        """Return the body. As Meta does, it quotes a token that it cannot read."""
        message = self._message.replace("{token}", token)
        error: dict[str, Any] = {
            "message": f"(#{self.code}) {message}{self._detail}",
            "type": "OAuthException" if self.status == 400 else "FacebookApiException",
            "code": self.code,
            "fbtrace_id": "AsandboxTraceId",
        }
        if self._subcode is not None:
            error["error_subcode"] = self._subcode
        if self.status == 500:
            error["is_transient"] = True
        return {"error": error}
