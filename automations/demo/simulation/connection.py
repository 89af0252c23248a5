"""A keep-alive connection that posts signed bodies."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

_HEADERS = {"User-Agent": "facebookexternalua", "Content-Type": "application/json"}


class Answer(NamedTuple):
    """The status code, and Retry-After in seconds (0 when absent)."""

    status: int
    retry_after: float


class Connection:
    """One connection to one URL, reopened after it broke; not thread safe.

    Raises ValueError for anything but an http(s) URL.
    """

    def __init__(self, url: str, *, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not a URL; use one like http://127.0.0.1:8000.")
        make = HTTPSConnection if parts.scheme == "https" else HTTPConnection
        self._http = make(parts.hostname, parts.port, timeout=timeout)
        self._path = parts.path or "/"

    def post(self, body: bytes, *, signature: str) -> Answer:
        """Send the body and return the answer. Raises OSError when there is none."""
        headers = _HEADERS | {"X-Hub-Signature-256": signature}
        is_reused = self._http.sock is not None
        try:
            return self._exchange(body, headers)
        except TimeoutError:
            raise
        except OSError:
            # A server may close an idle connection at any time, so a new one decides. If the
            # server had handled the body after all, this is a redelivery.
            if not is_reused:
                raise
            return self._exchange(body, headers)

    def close(self) -> None:
        """Close the connection; the next `post` opens another."""
        self._http.close()

    def _exchange(self, body: bytes, headers: dict[str, str]) -> Answer:
        try:
            self._http.request("POST", self._path, body, headers)
            response = self._http.getresponse()
            response.read()
        except OSError:
            self.close()
            raise
        except HTTPException as error:
            self.close()
            raise ConnectionResetError(f"The answer is incomplete: {error!r}") from error
        retry_after = response.headers.get("Retry-After", "")
        return Answer(response.status, float(retry_after) if retry_after.isdigit() else 0.0)
