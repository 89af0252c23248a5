"""Meta's refusals: the HTTP status, the numbers and the sentence of each."""

from __future__ import annotations

from typing import Any, NamedTuple


class MetaError(NamedTuple):
    """A row of the table."""

    status: int
    code: int
    subcode: int | None
    message: str


# Numbers as Meta's pages and integrations have them; that Meta answers 400 where others would
# answer 401 or 429 is so.
ERRORS: dict[str, MetaError] = {
    "bad_token": MetaError(400, 190, None, "Invalid OAuth access token - Cannot parse {token}"),
    "rate": MetaError(400, 613, None, "Calls to this api have exceeded the rate limit."),
    "outside_window": MetaError(
        400, 10, 2534022, "This message is sent outside of allowed window."
    ),
    "conflict": MetaError(400, 10, 2018300, "Another app is controlling this thread now."),
    "restricted": MetaError(400, 10, 1893063, "This account is restricted."),
    "already_replied": MetaError(400, 100, 2534025, "This comment was already replied to."),
    "no_person": MetaError(400, 100, 2534014, "The requested user cannot be found."),
    "no_object": MetaError(400, 100, 33, "Unsupported request. Object does not exist."),
    "bad_parameter": MetaError(400, 100, None, "Invalid parameter"),
    "unavailable": MetaError(400, 551, None, "This person isn't available right now."),
    "no_consent": MetaError(400, 230, None, "User consent is required to access user profile."),
    "server": MetaError(500, 2, None, "An unexpected error has occurred. Please retry later."),
}


class Refused(Exception):
    """A call that is answered with an error; `name` is a key of the table."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(f"{name}: {detail}")
        self.name = name
        self.detail = detail

    def build_answer(self, *, token: str, trace_id: str) -> tuple[int, dict[str, Any]]:
        """Return the status and the body. As Meta does, it quotes a token it cannot read."""
        error = ERRORS[self.name]
        message = error.message.replace("{token}", token)
        body: dict[str, Any] = {
            "message": f"(#{error.code}) {message}" + (f": {self.detail}" if self.detail else ""),
            "type": "OAuthException" if error.status != 500 else "FacebookApiException",
            "code": error.code,
            "fbtrace_id": trace_id,
        }
        if error.subcode is not None:
            body["error_subcode"] = error.subcode
        if error.status == 500:
            body["is_transient"] = True
        return error.status, {"error": body}
