"""Everything that knows Meta: its webhooks, its messages, its Graph API; no database."""
