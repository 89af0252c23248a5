"""The WSGI entry point: `project.wsgi:application`."""

import os

from django.core.cache import close_caches
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, reset_queries

from project.logs import trim_records

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")


def disconnect_databases() -> None:
    """Disconnect what Django does for SQL databases and caches; this project has neither.

    It was a tenth of what a delivery of one event costs in Python.
    """
    request_started.disconnect(reset_queries)
    request_started.disconnect(close_old_connections)
    request_finished.disconnect(close_old_connections)
    request_finished.disconnect(close_caches)


trim_records()
application = get_wsgi_application()
disconnect_databases()
