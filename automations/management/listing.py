"""The base of commands that list something of a workspace, as a table or as JSON."""

from collections.abc import Iterable, Mapping
from typing import Any

from tracking.management.database_command import JSON, DatabaseCommand, option


class ListCommand(DatabaseCommand):
    header: tuple[str, ...]
    hint_when_empty: str
    arguments = {"--workspace": option("only those of this workspace"), "--json": JSON}

    def list_items(self, workspace_id: str | None) -> Iterable[dict[str, Any]]:
        raise NotImplementedError

    def build_row(self, item: Mapping[str, Any]) -> tuple[str, ...]:
        raise NotImplementedError

    def run(self, **options: Any) -> None:
        items = list(self.list_items(options["workspace"]))
        if options["json"]:
            self.write_json(items)
        elif items:
            self.write_table([self.header, *map(self.build_row, items)])
        else:
            self.stdout.write(self.hint_when_empty)
