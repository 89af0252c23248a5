"""One example of every answer, as the API's documents show it."""

from __future__ import annotations

from typing import Any

_AUTOMATION_ID = "6650c0de0000000000000001"
_RUN_ID = "6b04d399e481bd40c528e310"

NEW_AUTOMATION: dict[str, Any] = {
    "name": "Price list",
    "type": "comment_to_dm",
    "accountId": "17841400000000001",
    "trigger": {"match": "contains", "keywords": ["price"]},
    "commentReply": {"texts": ["Sent!"]},
    "openingDm": {"text": "Shall I send you our prices?", "button": "Yes, send them"},
    "mainDm": {
        "text": "Here they are:",
        "links": [{"title": "See prices", "url": "https://shop.example.com/prices"}],
    },
}
CHANGES: dict[str, Any] = {"isActive": False, "askFollow": None}
_AUTOMATION = {
    "_id": _AUTOMATION_ID,
    "workspaceId": "w_84213",
    **NEW_AUTOMATION,
    "isActive": True,
    "createdAt": "2026-10-27T00:16:11.312Z",
    "updatedAt": "2026-11-24T00:16:28.144Z",
    "totalRuns": 223,
    "lastRunAt": "2026-11-24T00:16:28.134Z",
    "stats": {"totalRuns": 223, "last24Hours": 51, "last7Days": 223},
}
_INSTANT = {"asOf": "2026-11-24T00:17:00.000Z", "pending": 0}
AUTOMATIONS = {"success": True, **_INSTANT, "automations": [_AUTOMATION]}
AUTOMATION = {"success": True, **_INSTANT, "automation": _AUTOMATION}
STATS = {
    "success": True,
    **_INSTANT,
    "_id": _AUTOMATION_ID,
    "totalRuns": 223,
    "lastRunAt": "2026-11-24T00:16:28.134Z",
    "stats": {"totalRuns": 223, "last24Hours": 51, "last7Days": 223},
}
DONE = {"success": True}
ACCOUNTS = {
    "success": True,
    "accounts": [
        {
            "accountId": "17841400000000001",
            "state": "active",
            "stateReason": None,
            "stateAt": "2026-11-20T08:00:00.000Z",
            "sending": "on",
            "lastWebhookAt": "2026-11-24T00:16:28.134Z",
            "queued": 12,
            "oldestAt": "2026-11-24T00:16:27.000Z",
            "finishesAt": "2026-11-24T00:18:03.000Z",
        }
    ],
}
_RUN = {
    "_id": _RUN_ID,
    "automationId": _AUTOMATION_ID,
    "workspaceId": "w_84213",
    "triggerType": "comment_reply",
    "userId": "1186769685516671",
    "metadata": {"messageText": "price please", "postId": "17900000008426573"},
    "createdAt": "2026-11-24T00:00:25.210Z",
    "occurredAt": "2026-11-24T00:00:25.000Z",
    "eventId": "18186779461257189",
    "steps": {
        "comment_reply": {"state": "sent", "at": "2026-11-24T00:00:26.101Z"},
        "opening_dm": {
            "state": "failed",
            "at": "2026-11-24T00:00:26.480Z",
            "code": 10,
            "subcode": 2534022,
        },
    },
    "completedAt": None,
}
RUNS = {
    "success": True,
    "runs": [_RUN],
    "nextCursor": "HwAAAAl0AFreC6yaAQAAB2kAawTTmeSBvUDFKOMQAA",
    "from": "2026-11-23T18:30:00.000Z",
    "to": None,
    **_INSTANT,
}
RUN = {
    "success": True,
    "run": _RUN,
    "triggers": [
        {
            "kind": "comment",
            "eventId": "18186779461257189",
            "outcome": "counted",
            "createdAt": "2026-11-24T00:00:25.210Z",
            "occurredAt": "2026-11-24T00:00:25.000Z",
            "state": "failed",
        }
    ],
}
CSV = (
    "_id,createdAt,occurredAt,automationId,triggerType,userId,personUnknown,eventId,postId,storyId,"
    "messageText,comment_reply,opening_dm,ask_follow,main_dm,completedAt\r\n"
    f"{_RUN_ID},2026-11-24T00:00:25.210Z,2026-11-24T00:00:25.000Z,{_AUTOMATION_ID},comment_reply,"
    "1186769685516671,,18186779461257189,17900000008426573,,price please,sent,failed,,,\r\n"
)
SERIES = {
    "success": True,
    "unit": "day",
    "zone": "Asia/Kolkata",
    "from": "2026-11-22T18:30:00.000Z",
    "to": "2026-11-24T18:30:00.000Z",
    **_INSTANT,
    "isExact": True,
    "exactSince": "2025-10-20T01:17:00.000Z",
    "knownSince": None,
    "totals": {"counted": 223, "duplicates": 41, "newPeople": 198},
    "buckets": [
        {
            "start": "2026-11-22T18:30:00.000Z",
            "end": "2026-11-23T18:30:00.000Z",
            "local": "2026-11-23",
            "counted": 172,
            "duplicates": 30,
            "newPeople": 160,
        },
        {
            "start": "2026-11-23T18:30:00.000Z",
            "end": "2026-11-24T18:30:00.000Z",
            "local": "2026-11-24",
            "counted": 51,
            "duplicates": 11,
            "newPeople": 38,
        },
    ],
    "people": {
        "count": 204,
        "isExact": True,
        "from": "2026-11-22T18:30:00.000Z",
        "to": "2026-11-24T18:30:00.000Z",
    },
}
OUTCOMES = {
    "success": True,
    "from": "2026-11-17T00:00:00.000Z",
    "to": "2026-11-24T01:00:00.000Z",
    **_INSTANT,
    "isExact": True,
    "funnel": {"triggered": 140, "opened": 133, "asked": 0, "completed": 97},
    "steps": {"opening_dm": {"failed": 7, "sent": 133}, "main_dm": {"sent": 97}},
    "reasons": {
        "runs": 140,
        "isExact": True,
        "list": [
            {
                "step": "opening_dm",
                "state": "failed",
                "reason": None,
                "code": 10,
                "subcode": 2534022,
                "runs": 7,
            }
        ],
    },
    "uncounted": {
        "duplicates": 41,
        "redelivered": 16,
        "ignored": [
            {"reason": "own_comment", "meaning": "the account commented itself", "events": 3}
        ],
    },
}


def build_error(code: str, message: str, field: str | None = None) -> dict[str, Any]:
    """Return an error as it looks."""
    return {"success": False, "error": {"code": code, "message": message, "field": field}}


ERRORS = {
    400: build_error("invalid_choice", '"week" is not a valid choice.', "unit"),
    401: build_error("invalid_token", "The token is unknown, expired or revoked."),
    403: build_error("permission_denied", "CSRF Failed: CSRF token missing."),
    404: build_error("not_found", "Not found."),
    406: build_error("not_acceptable", "Could not satisfy the request Accept header."),
    413: build_error("too_large", "The body is too large."),
    415: build_error("unsupported_media_type", 'Unsupported media type "text/plain" in request.'),
    429: build_error("throttled", "Request was throttled. Expected available in 1 second."),
    503: build_error("unavailable", "The database did not answer in time. Try again."),
}
