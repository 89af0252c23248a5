"""A keep-alive connection that posts signed bodies."""

from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import NamedTuple
from urllib.parse import urlsplit

_HEADERS = {"User-Agent": "facebookexternalua", "Content-Type": "application/json"}


class Answer(NamedTuple):
    status: int
    retry_after: float  # seconds, 0 when absent


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
        is_reused = self._http.sock is not None
        try:
            headers = _HEADERS | {"X-Hub-Signature-256": signature}
            self._http.request("POST", self._path, body, headers)
            response = self._http.getresponse()
            response.read()
        except (OSError, HTTPException) as error:
            self.close()
            if is_reused and not isinstance(error, TimeoutError):
                # A server may close an idle connection at any time, so a new one decides. If the
                # server had handled the body after all, this is a redelivery.
                return self.post(body, signature=signature)
            if isinstance(error, OSError):
                raise
            raise ConnectionResetError(f"The answer is incomplete: {error!r}") from error
        retry_after = response.headers.get("Retry-After", "")
        return Answer(response.status, float(retry_after) if retry_after.isdigit() else 0.0)

    def close(self) -> None:
        self._http.close()
