"""Every setting, from the environment. No other module reads the environment.

Importing this never needs a secret: `check`, `migrate` and the migrations of data run without
one. `serve` and `check --deploy` are what refuse a missing DJANGO_SECRET_KEY.
"""

import secrets
import sys
from pathlib import Path
from typing import Any

from project import environment as env
from project.logs import build_logging

# --- Environment -----------------------------------------------------------------------------

DEBUG = env.read_bool("DJANGO_DEBUG", default=False)
SECRET_KEY = env.read_str("DJANGO_SECRET_KEY")
SECRET_KEY_FALLBACKS = list(env.read_list("DJANGO_SECRET_KEY_FALLBACKS"))
# A made key lasts as long as the process: cookies signed with it do not survive a restart, and
# two processes do not accept each other's.
SECRET_KEY_IS_EPHEMERAL = not SECRET_KEY
if SECRET_KEY_IS_EPHEMERAL:
    SECRET_KEY = secrets.token_urlsafe(50)
ALLOWED_HOSTS = list(env.read_list("DJANGO_ALLOWED_HOSTS")) or ["localhost", "127.0.0.1", "[::1]"]

MONGODB_URI = env.read_url("MONGODB_URI", schemes=("mongodb", "mongodb+srv"))
DATA_DIR = Path(env.read_str("DATA_DIR", ".data"))

INSTAGRAM_APP_SECRETS = env.read_list("INSTAGRAM_APP_SECRET")
INSTAGRAM_VERIFY_TOKEN = env.read_str("INSTAGRAM_VERIFY_TOKEN")
INSTAGRAM_GRAPH_URL = env.read_url(
    "INSTAGRAM_GRAPH_URL", schemes=("https", "http"), default="https://graph.instagram.com"
)
INSTAGRAM_SENDING = env.read_choice("INSTAGRAM_SENDING", choices=("off", "shadow", "on"))
FIELD_ENCRYPTION_KEYS = env.read_list("FIELD_ENCRYPTION_KEYS")
METRICS_TOKEN = env.read_str("METRICS_TOKEN")
# prometheus_client reads this one itself, when it is imported, and an empty one as a directory.
PROMETHEUS_MULTIPROC_DIR = env.read_str("PROMETHEUS_MULTIPROC_DIR")
env.forget_empty("PROMETHEUS_MULTIPROC_DIR")

# Of a token, to each process; 0 is no limit.
API_REQUESTS_PER_MINUTE = env.read_int(
    "API_REQUESTS_PER_MINUTE", default=600, minimum=0, unit="requests"
)

# What the API stores for one workspace and for one account, so that none fills the memory of all.
AUTOMATIONS_PER_WORKSPACE = env.read_int(
    "AUTOMATIONS_PER_WORKSPACE", default=1000, minimum=1, unit="automations"
)
AUTOMATIONS_PER_ACCOUNT = env.read_int(
    "AUTOMATIONS_PER_ACCOUNT", default=200, minimum=1, unit="automations"
)
AUTOMATION_KILOBYTES = env.read_int("AUTOMATION_KILOBYTES", default=64, minimum=1, unit="kilobytes")

TRACKING_ENABLED = env.read_bool("TRACKING_ENABLED", default=True)
TRACKING_STATS_ENABLED = env.read_bool("TRACKING_STATS_ENABLED", default=True)
TRACKING_DEDUP_WINDOW_MINUTES = env.read_int(
    "TRACKING_DEDUP_WINDOW_MINUTES", default=60, minimum=1, unit="minutes"
)
# Eight days: the stats of seven days are counted from the runs and rollups that are kept.
TRACKING_RETENTION_DAYS = env.read_int(
    "TRACKING_RETENTION_DAYS", default=90, minimum=8, unit="days"
)

# --- Django ----------------------------------------------------------------------------------

BASE_DIR = Path(__file__).resolve().parent.parent
ROOT_URLCONF = "project.urls"
WSGI_APPLICATION = "project.wsgi.application"
APPEND_SLASH = False
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False

# MongoDB is reached through tracking.mongo alone; there is no SQL database.
DATABASES: dict[str, dict[str, Any]] = {}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# Holds what the throttle counts, one entry for each token.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.locmem.LocMemCache",
        "OPTIONS": {"MAX_ENTRIES": 10_000},
    }
}

INSTALLED_APPS = [
    "django.contrib.staticfiles",
    "rest_framework",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "django_htmx",
    "automations",
    "tracking",
]
# Every request passes all of them, Meta's deliveries too. What only serves browsers costs those
# 20 us of 190; a shorter chain of their own would save less than it hides.
MIDDLEWARE = [
    "project.middleware.RequestIdMiddleware",
    "project.middleware.MetricsMiddleware",
    "project.middleware.CompressionMiddleware",
    "project.middleware.SecureCookiesMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "project.middleware.RedirectToTlsMiddleware",
    "project.static_files.HashedFilesMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "project.middleware.PagePolicyMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {"context_processors": ["django.template.context_processors.request"]},
    },
]

# Static files are served from the installed packages themselves: no collectstatic.
STATIC_URL = "/static/"
STORAGES = {"staticfiles": {"BACKEND": "project.static_files.HashedStorage"}}
WHITENOISE_USE_FINDERS = True
WHITENOISE_AUTOREFRESH = False

# TLS ends at a proxy, which must set this header and drop the one a client sent.
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
SESSION_ENGINE = "automations.auth.sessions"
# SecureCookiesMiddleware sets `Secure` by the request's own scheme.
SESSION_COOKIE_SECURE = False
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = "Lax"
CSRF_COOKIE_SECURE = False
CSRF_COOKIE_SAMESITE = "Lax"
X_FRAME_OPTIONS = "DENY"

# Everything that a page loads is a file of this site: nothing inline, nothing of another host. The
# views of pages that are not ours relax it.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'self'"],
        "base-uri": ["'none'"],
        "form-action": ["'self'"],
        "frame-ancestors": ["'none'"],
        "object-src": ["'none'"],
    }
}
SILENCED_SYSTEM_CHECKS = [
    "security.W004",  # Strict-Transport-Security is the word of the proxy that ends TLS
    "security.W008",  # RedirectToTlsMiddleware redirects, and no request that came by no proxy
    "security.W011",  # SecureCookiesMiddleware marks the session's cookie by the request's scheme
    "security.W016",  # and that of CSRF
]

# One delivery of Meta holds up to 1000 updates; larger bodies are answered 413.
DATA_UPLOAD_MAX_MEMORY_SIZE = 4 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "automations.auth.tokens.BearerTokenAuthentication",
        "automations.auth.tokens.SessionTokenAuthentication",
    ],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    # By token, in the memory of each process; None is no limit.
    "DEFAULT_THROTTLE_RATES": {
        "user": f"{API_REQUESTS_PER_MINUTE}/minute" if API_REQUESTS_PER_MINUTE else None
    },
    "EXCEPTION_HANDLER": "automations.api.errors.handle_error",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}

# The documents at /api/docs, from files of this site alone and open to everybody.
SPECTACULAR_SETTINGS = {
    "TITLE": "Automation run tracking",
    "DESCRIPTION": "Instagram automations of a workspace, and how often each of them ran. Every "
    "path is of one workspace and needs a token of it; errors have one shape; times are UTC.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "SCHEMA_PATH_PREFIX": "/api/workspaces/{wsid}",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    # By default it asks another host whether the schema is valid.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

LOGGING = build_logging(as_json=not (DEBUG or sys.stderr.isatty()))
