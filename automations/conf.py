"""Every setting of automations, declared once, typed, read at access."""

from pathlib import Path

from django.conf import settings


class Conf:
    """The settings as the code uses them, with the defaults of a project that sets none."""

    @property
    def app_secrets(self) -> tuple[str, ...]:
        """INSTAGRAM_APP_SECRET: every secret a delivery may be signed with; empty refuses all."""
        return tuple(getattr(settings, "INSTAGRAM_APP_SECRETS", ()))

    @property
    def verify_token(self) -> str:
        """INSTAGRAM_VERIFY_TOKEN: what Meta's verification GET must name; empty refuses all."""
        return str(getattr(settings, "INSTAGRAM_VERIFY_TOKEN", ""))

    @property
    def graph_url(self) -> str:
        """INSTAGRAM_GRAPH_URL, without a slash at its end."""
        default = "https://graph.instagram.com"
        return str(getattr(settings, "INSTAGRAM_GRAPH_URL", default)).rstrip("/")

    @property
    def sending(self) -> str:
        """INSTAGRAM_SENDING: off, shadow, on, or "" (on for accounts with a token)."""
        return str(getattr(settings, "INSTAGRAM_SENDING", ""))

    @property
    def field_encryption_keys(self) -> tuple[str, ...]:
        """FIELD_ENCRYPTION_KEYS: Fernet keys, the first one encrypts, all decrypt."""
        return tuple(getattr(settings, "FIELD_ENCRYPTION_KEYS", ()))

    @property
    def automation_bounds(self) -> tuple[int, int, int]:
        """AUTOMATIONS_PER_WORKSPACE, AUTOMATIONS_PER_ACCOUNT, and AUTOMATION_KILOBYTES in bytes."""
        workspace = int(getattr(settings, "AUTOMATIONS_PER_WORKSPACE", 1000))
        account = int(getattr(settings, "AUTOMATIONS_PER_ACCOUNT", 200))
        return workspace, account, 1024 * int(getattr(settings, "AUTOMATION_KILOBYTES", 64))

    @property
    def metrics_token(self) -> str:
        """METRICS_TOKEN: what a reader of /metrics must bear; empty: only this machine."""
        return str(getattr(settings, "METRICS_TOKEN", ""))

    @property
    def metrics_dir(self) -> Path | None:
        """PROMETHEUS_MULTIPROC_DIR: where processes add up their metrics; None: each its own."""
        value = getattr(settings, "PROMETHEUS_MULTIPROC_DIR", "")
        return Path(value) if value else None

    @property
    def is_secret_key_ephemeral(self) -> bool:
        """Whether SECRET_KEY was made by this process because none was set."""
        return bool(getattr(settings, "SECRET_KEY_IS_EPHEMERAL", False))


conf = Conf()
