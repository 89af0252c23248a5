"""The parameters of the API's paths; unknown ones are refused by name."""

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from difflib import get_close_matches
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from rest_framework import serializers
from rest_framework.exceptions import ErrorDetail

from automations.api.base import QuerySerializer
from automations.outbox.jobs import StepState
from tracking.clock import truncate_to_milliseconds
from tracking.queries.run_filters import STEPS, RunFilter
from tracking.queries.time_grid import Unit, start_of_day
from tracking.rollups.outcomes import COMPLETED

MOST_RUNS = 200
DEFAULT_RUNS = 50
_STATES = tuple(state.value for state in StepState if state is not StepState.SENDING)
OUTCOMES = (
    COMPLETED,
    *_STATES,
    *(f"{step}.{state}" for step in STEPS for state in _STATES),
)
INCLUDES = ("people", "outcomes", "automations")
_DEFAULT_LENGTHS = {Unit.HOUR: timedelta(hours=24), Unit.DAY: timedelta(days=7)}
_LONGEST = 200
UTC_NAME = "UTC"
# Anything longer is no zone, and not worth comparing with six hundred names.
_LONGEST_ZONE_NAME = 64


@cache
def list_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def parse_zone(name: str) -> ZoneInfo:
    """Return the zone of that name. Raises ValidationError, which names the nearest."""
    if name in list_zones():
        return ZoneInfo(name)
    by_lowered = {zone.lower(): zone for zone in list_zones()}
    wanted = name[:_LONGEST_ZONE_NAME].strip().replace(" ", "_").lower()
    near = get_close_matches(wanted, by_lowered, n=1)
    if not near:  # people write the city alone
        near = [one for one in sorted(by_lowered) if one.rpartition("/")[2] == wanted][:1]
    hint = f" Did you mean {by_lowered[near[0]]}?" if near else ""
    raise serializers.ValidationError(
        f"{name[:_LONGEST_ZONE_NAME]!r} is not an IANA time zone; write one like Asia/Kolkata "
        f"or {UTC_NAME}.{hint}",
        "unknown_zone",
    )


class MomentField(serializers.CharField):
    """An instant like `2026-11-23T10:30:00Z`, or a date in `zone`."""

    default_error_messages = {
        "invalid": "Write a date like 2026-11-23, or a time with its offset like "
        "2026-11-23T10:30:00Z (a + is %2B in a URL).",
    }

    def to_internal_value(self, data: Any) -> datetime | date:  # type: ignore[override]
        try:
            if len(data) <= len("2026-11-23"):
                return date.fromisoformat(data)
            moment = datetime.fromisoformat(data)
            if moment.tzinfo is None:
                self.fail("invalid")
            return truncate_to_milliseconds(moment.astimezone(UTC))
        except (TypeError, ValueError, OverflowError):
            self.fail("invalid")


class ZoneField(serializers.CharField):
    def to_internal_value(self, data: Any) -> tzinfo:  # type: ignore[override]
        return parse_zone(super().to_internal_value(data))


class IncludeField(serializers.CharField):
    def to_internal_value(self, data: Any) -> frozenset[str]:  # type: ignore[override]
        parts = frozenset(filter(None, super().to_internal_value(data).split(",")))
        unknown = sorted(parts - set(INCLUDES))
        if unknown:
            raise serializers.ValidationError(
                f"{unknown[0]!r} cannot be included. What can: {', '.join(INCLUDES)}.", "unknown"
            )
        return parts


class RangeQuery(QuerySerializer):
    from_ = MomentField(required=False, help_text="From this instant on, or from this day on.")
    to = MomentField(
        required=False, help_text="Up to, and without, this instant or the first one of this day."
    )
    zone = ZoneField(
        default=ZoneInfo(UTC_NAME),  # type: ignore[arg-type]
        help_text="IANA name of the zone whose days are meant, like `Asia/Kolkata`.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Return the values, each date as its first instant in the zone."""
        for name in ("from", "to"):
            value = attrs.get(name)
            if value is not None and not isinstance(value, datetime):
                try:
                    attrs[name] = start_of_day(value, attrs["zone"])
                except OverflowError:
                    raise serializers.ValidationError({name: "No zone has this day."}) from None
        if attrs.get("from") and attrs.get("to") and attrs["from"] >= attrs["to"]:
            raise serializers.ValidationError(
                {"from": ErrorDetail("'from' should be before 'to'.", "bad_range")}
            )
        return attrs


class RunFilterQuery(RangeQuery):
    triggerType = serializers.ChoiceField(
        choices=STEPS, required=False, help_text="The first thing that was to be sent."
    )
    outcome = serializers.ChoiceField(
        choices=OUTCOMES,
        required=False,
        help_text="What became of any step (`failed`), of one (`main_dm.sent`), or `completed`.",
    )
    userId = serializers.CharField(required=False, max_length=_LONGEST, help_text="The person.")
    postId = serializers.CharField(
        required=False, max_length=_LONGEST, help_text="The post that was commented."
    )


class RunPageQuery(RunFilterQuery):
    limit = serializers.IntegerField(
        default=DEFAULT_RUNS, min_value=1, max_value=MOST_RUNS, help_text="Runs a page."
    )
    cursor = serializers.CharField(
        required=False,
        max_length=2000,
        help_text="`nextCursor` of the page before; without it, the newest runs.",
    )


class SeriesQuery(RangeQuery):
    unit = serializers.ChoiceField(
        choices=[unit.value for unit in Unit],
        default=Unit.DAY.value,
        help_text="How long a bucket is: an hour or a day of the zone's clocks.",
    )
    include = IncludeField(
        required=False,
        help_text="Comma list of what else to answer: `people` (distinct, of the range), "
        "`outcomes` (of steps, by bucket), `automations` (counts of each).",
    )


def find_window(
    values: Mapping[str, Any], *, unit: Unit, at: datetime
) -> tuple[datetime, datetime]:
    """Return (from, to), by default the last 24 hours or 7 days."""
    to: datetime = values.get("to") or at
    return values.get("from") or min(to, at) - _DEFAULT_LENGTHS[unit], to


def build_filter(
    values: Mapping[str, Any], workspace_id: str, automation_id: str | None = None
) -> RunFilter:
    step, _, state = (values.get("outcome") or "").rpartition(".")
    return RunFilter(
        workspace_id=workspace_id,
        automation_id=automation_id,
        trigger_type=values.get("triggerType"),
        step=step or None,
        state=state or None,
        user_id=values.get("userId"),
        post_id=values.get("postId"),
        from_=values.get("from"),
        to=values.get("to"),
    )
