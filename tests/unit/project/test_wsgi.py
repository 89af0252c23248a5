import pytest
from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.db import close_old_connections

from project.wsgi import disconnect_databases


def test_no_database_or_cache_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for signal in (request_started, request_finished):
        monkeypatch.setattr(signal, "receivers", list(signal.receivers))
        signal.connect(close_old_connections)
    request_finished.connect(close_caches)
    disconnect_databases()
    assert [receiver() for _, receiver, *_ in request_started.receivers] == []
    assert [receiver() for _, receiver, *_ in request_finished.receivers] == [reset_urlconf]
    for signal in (request_started, request_finished):
        signal.sender_receivers_cache.clear()
