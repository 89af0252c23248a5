"""The WSGI entry point: `project.wsgi:application`."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

from project.logs import trim_records
from project.requests import disconnect_databases

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "project.settings")

trim_records()
application = get_wsgi_application()
disconnect_databases()
