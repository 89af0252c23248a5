"""Instagram as far as sending sees it: who wrote what and when, and what each person received."""

import base64
import hashlib
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from automations.instagram import limits

# Meta's refusals, by name: code, subcode, message.
# https://developers.facebook.com/docs/messenger-platform/error-codes
# https://developers.facebook.com/docs/graph-api/guides/error-handling
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


# Kind of call -> how many an account has, in how many seconds.
_CALLS = {
    "private_reply": (limits.PRIVATE_REPLIES_PER_HOUR, 3600),
    "dm": (limits.MESSAGES_PER_SECOND, 1),
    "profile": (limits.READS_PER_SECOND, 1),
}


class Button(NamedTuple):
    kind: str  # postback, quick_reply or web_url
    title: str
    value: str  # the payload, or the URL


# The text of a message, and its buttons.
Content = tuple[str, tuple[Button, ...]]


class Received(msgspec.Struct, frozen=True):
    """Something a person received: a private_reply, a dm, or a public_reply below their comment."""

    kind: str
    account_id: str
    person_id: str
    message_id: str
    text: str
    buttons: tuple[Button, ...]
    comment_id: str | None
    at: datetime


class Comment(msgspec.Struct):
    account_id: str
    person_id: str
    media_id: str
    is_live: bool
    at: datetime
    is_replied: bool = False  # privately


class RollingWindow:
    """The calls of the last so many seconds; `at` is a time in seconds that does not go back."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self._seconds = seconds
        self._times: deque[float] = deque()

    def take(self, at: float) -> None:
        if self.count(at) >= self.most:
            raise Refused("rate")
        self._times.append(at)

    def count(self, at: float) -> int:
        while self._times and self._times[0] <= at - self._seconds:
            self._times.popleft()
        return len(self._times)

    def find_wait(self, at: float) -> float:
        return self._times[0] + self._seconds - at if self.count(at) >= self.most else 0.0


class AccountBook:
    """An account with its limits; `token` is None once it expired."""

    def __init__(self, most: Mapping[str, int]) -> None:
        self.token: str | None = None
        self.is_restricted = False
        self.calls = {
            kind: RollingWindow(most.get(kind, number), seconds)
            for kind, (number, seconds) in _CALLS.items()
        }


class World:
    """The state and its rules, for use under the lock. Calls raise Refused."""

    def __init__(self, *, seed: int, most: Mapping[str, int]) -> None:
        self.accounts: dict[str, AccountBook] = {}
        self.comments: dict[str, Comment] = {}
        self.journal: defaultdict[str, list[Received]] = defaultdict(list)
        self.follows: set[tuple[str, str]] = set()
        self.blocked: set[str] = set()
        self.taken_over: set[tuple[str, str]] = set()
        self.ended_media: set[str] = set()
        # A person wrote or tapped: the window is open, and their profile may be read.
        self.heard_at: dict[tuple[str, str], datetime] = {}
        self._ids: Counter[str] = Counter()
        self._seed = seed
        self._most = most

    def add_account(self, account_id: str, token: str) -> None:
        self.accounts.setdefault(account_id, AccountBook(self._most)).token = token

    def find_account_id(self, token: str) -> str:
        for account_id, book in self.accounts.items():
            if book.token == token:
                return account_id
        raise Refused("bad_token")

    def make_id(self, kind: str, *parts: str) -> str:
        """Return a new id, always the same for the nth one of these parts."""
        name = ":".join((kind, *parts))
        self._ids[name] += 1
        digest = hashlib.sha256(f"{self._seed}:{name}:{self._ids[name]}".encode()).digest()
        if kind == "mid":
            # https://developers.facebook.com/docs/messenger-platform/reference/webhook-events
            return "aWdfZAG1f" + base64.urlsafe_b64encode(digest * 2).decode().rstrip("=")
        return f"1{int.from_bytes(digest[:8]) % 10**16:016}"

    def forget(self, person_id: str) -> None:
        """Forget a person, their comments and their messages; ids are never used again."""
        for received in self.journal.pop(person_id, ()):
            self.comments.pop(received.comment_id or "", None)
        for account_id in self.accounts:
            self.heard_at.pop((account_id, person_id), None)
            self.follows.discard((account_id, person_id))

    def reply_privately(
        self, account_id: str, comment_id: str, content: Content, at: datetime
    ) -> Received:
        book = self._find_sender(account_id)
        comment = self._find_comment(account_id, comment_id)
        if comment.is_replied:
            raise Refused("already_replied")
        is_over = comment.is_live and comment.media_id in self.ended_media
        if is_over or at - comment.at > limits.COMMENT_WINDOW:
            raise Refused("outside_window")
        self._check_person(account_id, comment.person_id)
        book.calls["private_reply"].take(at.timestamp())
        comment.is_replied = True
        mid = self.make_id("mid", account_id, comment.person_id)
        return self._deliver(
            Received("private_reply", account_id, comment.person_id, mid, *content, comment_id, at)
        )

    def send_message(
        self, account_id: str, person_id: str, content: Content, at: datetime
    ) -> Received:
        book = self._find_sender(account_id)
        heard_at = self.heard_at.get((account_id, person_id))
        self._check_person(account_id, person_id)
        if heard_at is None or at - heard_at > limits.MESSAGE_WINDOW:
            raise Refused("outside_window")
        book.calls["dm"].take(at.timestamp())
        mid = self.make_id("mid", account_id, person_id)
        return self._deliver(Received("dm", account_id, person_id, mid, *content, None, at))

    def reply_publicly(self, account_id: str, comment_id: str, text: str, at: datetime) -> Received:
        self._find_sender(account_id)
        person_id = self._find_comment(account_id, comment_id).person_id
        new_id = self.make_id("comment", account_id, person_id)
        return self._deliver(
            Received("public_reply", account_id, person_id, new_id, text, (), comment_id, at)
        )

    def is_following(self, account_id: str, person_id: str, at: datetime) -> bool:
        self.accounts[account_id].calls["profile"].take(at.timestamp())
        if (account_id, person_id) not in self.heard_at:
            raise Refused("no_consent")
        return (account_id, person_id) in self.follows

    def _find_sender(self, account_id: str) -> AccountBook:
        book = self.accounts[account_id]
        if book.is_restricted:
            raise Refused("restricted")
        return book

    def _find_comment(self, account_id: str, comment_id: str) -> Comment:
        comment = self.comments.get(comment_id)
        if comment is None or comment.account_id != account_id:
            raise Refused("no_object")
        return comment

    def _check_person(self, account_id: str, person_id: str) -> None:
        if person_id in self.blocked:
            raise Refused("unavailable")
        if (account_id, person_id) in self.taken_over:
            raise Refused("conflict")

    def _deliver(self, received: Received) -> Received:
        self.journal[received.person_id].append(received)
        return received
