"""Management commands as tests run them."""

from io import StringIO

from django.core.management import call_command


def run_command(name: str, *arguments: str) -> list[str]:
    """Return the lines that the command prints on standard output."""
    out = StringIO()
    call_command(name, *arguments, stdout=out)
    return out.getvalue().splitlines()
