"""Errors of Meta's Graph API, and what their codes mean."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

import httpx2
import orjson

from automations.instagram.usage import read_retry_after

_SUCCESS = range(200, 300)
_MOST_CODE = 2**31  # so that it can be stored


class ErrorClass(Enum):
    TOKEN_DEAD = "the access token is dead, nothing was sent"  # noqa: S105 - a sentence
    RATE = "the account is over a limit, nothing was sent"
    OUTSIDE_WINDOW = "the person has not written for 24 hours"
    CONFIGURATION = "the app or the token lacks a permission, or the address is wrong"
    PERMANENT = "this message can never be sent"
    ALREADY_REPLIED = "the comment has its one private reply already"
    CONFLICT = "another app owns the conversation"
    RESTRICTED = "the account is restricted"
    NO_CONSENT = "the person has not agreed to be looked at"
    UNKNOWN = "it may have been delivered"
    NOT_SENT = "nothing left this machine"


# By code and subcode; a code with None is that code under any other subcode.
ERROR_CLASSES: dict[tuple[int, int | None], ErrorClass] = {
    (190, None): ErrorClass.TOKEN_DEAD,
    (102, None): ErrorClass.TOKEN_DEAD,
    (4, None): ErrorClass.RATE,
    (17, None): ErrorClass.RATE,
    (32, None): ErrorClass.RATE,
    (613, None): ErrorClass.RATE,
    (80002, None): ErrorClass.RATE,
    (10, 2534022): ErrorClass.OUTSIDE_WINDOW,
    (10, 2018278): ErrorClass.OUTSIDE_WINDOW,
    (10, 2018300): ErrorClass.CONFLICT,
    (10, 1893063): ErrorClass.RESTRICTED,
    (10, None): ErrorClass.CONFIGURATION,
    (200, 2018028): ErrorClass.CONFIGURATION,
    (200, 2534041): ErrorClass.CONFIGURATION,
    (200, None): ErrorClass.CONFIGURATION,
    (3, None): ErrorClass.CONFIGURATION,
    (100, 2534014): ErrorClass.PERMANENT,
    (100, 33): ErrorClass.PERMANENT,
    (100, 2534029): ErrorClass.PERMANENT,
    (100, 2534013): ErrorClass.PERMANENT,
    (100, 2534025): ErrorClass.ALREADY_REPLIED,
    (100, 2534037): ErrorClass.CONFLICT,
    # "Invalid parameter": what is wrong with the message stays wrong.
    (100, None): ErrorClass.PERMANENT,
    (551, None): ErrorClass.PERMANENT,
    (230, None): ErrorClass.NO_CONSENT,
    (1, 1357046): ErrorClass.UNKNOWN,
    (1, None): ErrorClass.UNKNOWN,
    (2, 1545133): ErrorClass.UNKNOWN,
    (2, None): ErrorClass.UNKNOWN,
    (20, 1772107): ErrorClass.UNKNOWN,
}

# An answer without a known code is classified by its HTTP status. A refusal (4xx) was not carried
# out. A redirect is never followed, and means that INSTAGRAM_GRAPH_URL is not the API.
_STATUS_CLASSES: dict[int, ErrorClass] = {
    401: ErrorClass.TOKEN_DEAD,
    408: ErrorClass.UNKNOWN,
    429: ErrorClass.RATE,
}
_FAMILY_CLASSES: dict[int, ErrorClass] = {
    3: ErrorClass.CONFIGURATION,
    4: ErrorClass.PERMANENT,
}


def classify_error(
    code: int | None,
    subcode: int | None,
    *,
    status: int,
    is_transient: bool = False,
) -> ErrorClass:
    """Return the class of an error; `status` is the HTTP status.

    A code that is not in the table is UNKNOWN if Meta calls it transient or its server failed,
    because only a refusal proves that a message was not delivered.
    """
    if code is not None:
        for key in ((code, subcode), (code, None)):
            found = ERROR_CLASSES.get(key)
            if found is not None:
                return found
    if status in _STATUS_CLASSES:
        return _STATUS_CLASSES[status]
    if is_transient:
        return ErrorClass.UNKNOWN
    return _FAMILY_CLASSES.get(status // 100, ErrorClass.UNKNOWN)


class GraphError(Exception):
    """A call failed: the class, and Meta's numbers where there are any.

    `retry_after` is in seconds, for RATE only. Holds no token, no text and no id of a person.
    """

    def __init__(
        self,
        classification: ErrorClass,
        *,
        code: int | None = None,
        subcode: int | None = None,
        retry_after: float | None = None,
        trace_id: str | None = None,
        detail: str = "",
    ) -> None:
        numbers = "" if code is None else f" (error {code}/{subcode})"
        trace = f" [fbtrace_id {trace_id}]" if trace_id else ""
        super().__init__(f"{detail or classification.value}{numbers}{trace}")
        self.classification = classification
        self.code = code
        self.subcode = subcode
        self.retry_after = retry_after


def read_answer(status: int, headers: httpx2.Headers, data: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(data)
    except orjson.JSONDecodeError:
        answer = None
    error = answer.get("error") if isinstance(answer, dict) else None
    if status in _SUCCESS and error is None and isinstance(answer, dict):
        return answer
    if not isinstance(error, dict):
        if status in _SUCCESS:
            raise GraphError(ErrorClass.UNKNOWN, detail="the answer cannot be read")
        error = {}
    code, subcode = _read_int(error, "code"), _read_int(error, "error_subcode")
    classification = classify_error(
        code, subcode, status=status, is_transient=error.get("is_transient") is True
    )
    is_rate = classification is ErrorClass.RATE
    trace_id = error.get("fbtrace_id")  # Meta's support asks for it
    raise GraphError(
        classification,
        code=code,
        subcode=subcode,
        retry_after=read_retry_after(headers) if is_rate else None,
        trace_id=trace_id if isinstance(trace_id, str) and len(trace_id) <= 40 else None,
        detail="" if code is not None else f"{classification.value} (HTTP {status})",
    )


def _read_int(error: Mapping[str, Any], name: str) -> int | None:
    value = error.get(name)
    return value if type(value) is int and abs(value) < _MOST_CODE else None
