"""The base of commands that list something of a workspace, as a table or as JSON."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any

from django.core.management.base import CommandParser

from tracking.management.database_command import DatabaseCommand


class ListCommand(DatabaseCommand):
    header: tuple[str, ...]
    hint_when_empty: str

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--workspace", help="only those of this workspace")
        parser.add_argument("--json", action="store_true", help="print one JSON array")

    @abstractmethod
    def list_items(self, workspace_id: str | None) -> Iterable[dict[str, Any]]:
        """Return what `--json` prints."""

    @abstractmethod
    def build_row(self, item: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the cells of an item, below the header."""

    def run(self, **options: Any) -> None:
        items = list(self.list_items(options["workspace"]))
        if options["json"]:
            self.stdout.write(json.dumps(items, indent=2))
            return
        if not items:
            self.stdout.write(self.hint_when_empty)
            return
        rows = [self.header, *map(self.build_row, items)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            self.stdout.write("  ".join(cells).rstrip())
