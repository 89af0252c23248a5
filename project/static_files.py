"""Static files by the hash of their content, as installed: no collectstatic."""

import hashlib
from functools import cache
from pathlib import Path
from typing import Any

from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import StaticFilesStorage
from whitenoise.middleware import WhiteNoiseMiddleware  # type: ignore[import-untyped]


@cache
def hash_name(name: str) -> str:
    """Return `base.css` as `base.0123456789ab.css`; what is no file stays as it is."""
    path = Path(str(finders.find(name)))
    if not path.is_file():
        return name
    digest = hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest()[:12]
    return str(Path(name).with_suffix(f".{digest}{path.suffix}"))


class HashedStorage(StaticFilesStorage):
    """Gives pages the names with hashes."""

    def url(self, name: str | None) -> str:
        return super().url(hash_name(name or ""))


class HashedFilesMiddleware(WhiteNoiseMiddleware):  # type: ignore[misc]
    """Serves each file by both names; browsers keep the one with a hash for good."""

    def add_file_to_dictionary(self, url: str, path: str, stat_cache: Any = None) -> None:
        super().add_file_to_dictionary(url, path, stat_cache)
        hashed = self.static_prefix + hash_name(url.removeprefix(self.static_prefix))
        super().add_file_to_dictionary(hashed, path, stat_cache)
