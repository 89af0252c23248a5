"""Where calls may go: over TLS, or to this machine itself, which leaves no wire to listen on."""

import ipaddress
from urllib.parse import urlsplit


def is_loopback(host: str) -> bool:
    """Return whether `host` is localhost or a loopback address; no name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def find_url_problem(url: str) -> str | None:
    """Return what is wrong with the root URL that calls with tokens go to, None if nothing is."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        return "it cannot be read"
    if parts.scheme not in ("http", "https") or not host:
        return "it is no http or https URL"
    if parts.scheme == "http" and not is_loopback(host):
        return "it is not https"
    # Each call appends its path, and who reads "https://a@b" takes the wrong one for the host.
    if parts.query or parts.fragment or parts.username is not None or "\\" in url:
        return "it is more than a host and a path"
    return None
