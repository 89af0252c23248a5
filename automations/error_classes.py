"""What Meta's errors mean for a message, as a table.

Collected from Meta's pages on errors of the Graph API and of the Send API, and from integrations
in use (2025-2026): https://developers.facebook.com/docs/graph-api/guides/error-handling and
https://developers.facebook.com/docs/messenger-platform/error-codes.
"""

from enum import Enum


class ErrorClass(Enum):
    """What an error says, one class for each thing that one can do about it."""

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

# An answer without a code that is known: by its HTTP status. A refusal (4xx) was not carried out; a
# redirect is never followed, and means that INSTAGRAM_GRAPH_URL is not the API.
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
    """Return the class of an error of Meta's; `status` is that of HTTP.

    A code that the table does not have is unknown when Meta calls it transient or its server broke:
    to believe that a message was not delivered needs a reason.
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
