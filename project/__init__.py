"""The Django project: settings, root URLs, logging and the WSGI entry point."""
