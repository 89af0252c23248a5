"""The calls to Meta's Graph API that sending needs.

https://developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/messaging-api
https://developers.facebook.com/docs/instagram-platform/private-replies
https://developers.facebook.com/docs/instagram-platform/comment-moderation

A token is in the Authorization header of its own call and nowhere else. Errors carry none of Meta's
sentences: 190 quotes the token in its own ("Malformed access token ...").
"""

import logging
import time
from collections.abc import Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Self
from urllib.parse import quote, urlsplit

import httpx2

from automations.hosts import find_url_problem
from automations.instagram.access_tokens import AccessToken, Host
from automations.instagram.graph_errors import ErrorClass, GraphError, read_answer
from automations.instagram.usage import UsageBoard

# httpx writes each URL at INFO, and a person's id is in some of them.
for _name in ("httpx2", "httpcore2"):
    logging.getLogger(_name).setLevel(logging.WARNING)

# A lease lasts 60 s. A call waits for a connection, for it to open, to write, for the first byte,
# and for the rest of the answer, with 8 s at most 2 + 4 + 4 + 8 + 8 = 26 s.
_MOST_TIMEOUT_SECONDS = 8.0
_CONNECT_SECONDS = 4.0
_POOL_SECONDS = 2.0
# The default of httpx. It is shorter than what servers use, so that a call seldom meets a
# connection that was just closed, because its outcome would be unknown.
_KEEP_ALIVE_SECONDS = 5.0
_MOST_CONNECTIONS = 64
_MOST_ANSWER_BYTES = 256 * 1024

# Raised before the first byte of a request is written (httpcore2 opens a connection, TLS included,
# before it writes); everything else may have been delivered.
_NOTHING_LEFT = (
    httpx2.ConnectError,
    httpx2.ConnectTimeout,
    httpx2.PoolTimeout,
    httpx2.UnsupportedProtocol,
)


class GraphClient:
    """Calls over pooled connections; threads may share it, forked processes may not.

    `base_url` is INSTAGRAM_GRAPH_URL. If it is one of Meta's hosts, with or without a version as
    its path, each call goes to the host of its token. Any other URL gets every call. Nothing else
    is ever called: ids are quoted in the path, and redirects, proxies and .netrc of the environment
    are not used. Raises ValueError for a URL that must not get tokens.
    """

    def __init__(self, base_url: str = "", *, timeout_seconds: float = 8) -> None:
        if not 0 < timeout_seconds <= _MOST_TIMEOUT_SECONDS:
            raise ValueError(f"timeout_seconds is more than 0 and at most {_MOST_TIMEOUT_SECONDS}.")
        if base_url and (problem := find_url_problem(base_url)):
            raise ValueError(f"INSTAGRAM_GRAPH_URL cannot be called: {problem}.")
        parts = urlsplit(base_url)
        self._is_meta = parts.hostname is None or parts.hostname in set(Host)
        self._base_url = base_url.rstrip("/")
        self._version = parts.path.rstrip("/")
        self._timeout_seconds = timeout_seconds
        self._usage = UsageBoard()
        self._client = httpx2.Client(
            headers={"User-Agent": "automation-run-tracking"},
            timeout=httpx2.Timeout(
                timeout_seconds,
                connect=min(timeout_seconds, _CONNECT_SECONDS),
                write=min(timeout_seconds, _CONNECT_SECONDS),
                pool=min(timeout_seconds, _POOL_SECONDS),
            ),
            limits=httpx2.Limits(
                max_connections=_MOST_CONNECTIONS,
                max_keepalive_connections=_MOST_CONNECTIONS,
                keepalive_expiry=_KEEP_ALIVE_SECONDS,
            ),
            # Cookies would carry something of one account into the calls of another.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._client.close()

    def reply_privately(
        self, account: str, comment_id: str, message: Mapping[str, Any], *, token: str
    ) -> str | None:
        """Answer a comment privately and return the message's id. Raises GraphError.

        Meta accepts one per comment, within COMMENT_WINDOW.
        """
        return self._send_message(account, {"comment_id": comment_id}, message, token)

    def send_message(
        self, account: str, person_id: str, message: Mapping[str, Any], *, token: str
    ) -> str | None:
        return self._send_message(account, {"id": person_id}, message, token)

    def reply_publicly(self, comment_id: str, text: str, *, token: str) -> str | None:
        path = f"/{quote(comment_id, safe='')}/replies"
        answer = self._call("POST", path, token=token, body={"message": text})
        return _read_text(answer, "id")

    def is_following(self, person_id: str, *, token: str) -> bool | None:
        """Return whether the person follows the account, None if Meta does not say.

        Meta only says so of people who wrote or tapped before.
        """
        path = f"/{quote(person_id, safe='')}?fields=is_user_follow_business"
        try:
            answer = self._call("GET", path, token=token)
        except GraphError as error:
            if error.classification is ErrorClass.NO_CONSENT:
                return None
            raise
        value = answer.get("is_user_follow_business")
        return value if isinstance(value, bool) else None

    def usage(self, account: str) -> float:
        """Return the used part of the account's quota, 0 to 1, as last reported."""
        return self._usage.read(account, at=time.monotonic())

    def _send_message(
        self, account: str, recipient: Mapping[str, str], message: Mapping[str, Any], token: str
    ) -> str | None:
        path = f"/{quote(account, safe='')}/messages"
        body = {"recipient": recipient, "message": message}
        answer = self._call("POST", path, token=token, body=body, account=account)
        return _read_text(answer, "message_id")

    def _call(
        self, method: str, path: str, *, token: str, body: Any = None, account: str | None = None
    ) -> dict[str, Any]:
        if not token or not token.isascii() or not token.isprintable():
            raise GraphError(ErrorClass.TOKEN_DEAD, detail="the token cannot stand in a header")
        headers = {"Authorization": f"Bearer {token}"}
        url = self._build_url(path, token)
        failure: ErrorClass
        try:
            with self._client.stream(method, url, headers=headers, json=body) as response:
                status, answer_headers = response.status_code, response.headers
                data = self._read_body(response)
        except _NOTHING_LEFT:
            failure = ErrorClass.NOT_SENT
        except (httpx2.HTTPError, OSError):
            failure = ErrorClass.UNKNOWN
        else:
            self._usage.note(account, answer_headers, at=time.monotonic())
            return read_answer(status, answer_headers, data)
        # Outside of `except`, because the error of httpx holds the request, and so the token.
        raise GraphError(failure)

    def _build_url(self, path: str, token: str) -> str:
        if not self._is_meta:
            return self._base_url + path
        host = token.host if isinstance(token, AccessToken) else Host.INSTAGRAM
        return f"https://{host.value}{self._version}{path}"

    def _read_body(self, response: httpx2.Response) -> bytes:
        """Return what came of the body in time, because a slow answer would outlast a lease."""
        deadline = time.monotonic() + self._timeout_seconds
        data = bytearray()
        for chunk in response.iter_bytes():
            data += chunk
            if len(data) > _MOST_ANSWER_BYTES or time.monotonic() > deadline:
                break
        return bytes(data)


def _read_text(answer: Mapping[str, Any], name: str) -> str | None:
    value = answer.get(name)
    return value if isinstance(value, str) else None
