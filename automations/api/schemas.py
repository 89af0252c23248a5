"""The shapes of the API's answers, for its documents: nothing is built or checked with them.

Fields that documents of an older product may lack are not required.
"""

from __future__ import annotations

from typing import Any

from rest_framework import serializers


class ErrorSerializer(serializers.Serializer[None]):
    """One fact: a `code` for programs, a `message` for people, the `field` that it is about."""

    code = serializers.CharField()
    message = serializers.CharField()
    field = serializers.CharField(allow_null=True, help_text="A dotted path, or null.")


class ErrorAnswerSerializer(serializers.Serializer[None]):
    """What every error looks like."""

    success = serializers.BooleanField()
    error = ErrorSerializer()


class StatsSerializer(serializers.Serializer[None]):
    """Runs to the millisecond, at the instant of the answer."""

    totalRuns = serializers.IntegerField()  # noqa: N815 - names of the answers, here and below
    last24Hours = serializers.IntegerField()  # noqa: N815
    last7Days = serializers.IntegerField()  # noqa: N815


class AutomationAnswerSerializer(serializers.Serializer[None]):
    """An automation: every stored field, and its runs. Without `stats` when they are off."""

    _id = serializers.CharField()
    name = serializers.JSONField(required=False, help_text="A text, as all that we write.")
    type = serializers.JSONField(required=False, help_text="One of POST's types.")
    totalRuns = serializers.IntegerField()  # noqa: N815
    lastRunAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    stats = StatsSerializer(required=False)


class InstantSerializer(serializers.Serializer[None]):
    """The instant of the figures, and how many events had arrived by then and are not in them."""

    asOf = serializers.DateTimeField()  # noqa: N815
    pending = serializers.IntegerField(help_text="Events that are being counted.")


class AutomationListAnswerSerializer(InstantSerializer):
    """All automations of the workspace, newest first."""

    success = serializers.BooleanField()
    automations = AutomationAnswerSerializer(many=True)


class OneAutomationAnswerSerializer(InstantSerializer):
    """One automation."""

    success = serializers.BooleanField()
    automation = AutomationAnswerSerializer()


class StatsAnswerSerializer(InstantSerializer):
    """The runs of one automation, at `asOf`."""

    success = serializers.BooleanField()
    _id = serializers.CharField()
    totalRuns = serializers.IntegerField()  # noqa: N815
    lastRunAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    stats = StatsSerializer(required=False)


class DoneAnswerSerializer(serializers.Serializer[None]):
    """It is done."""

    success = serializers.BooleanField()


class AccountSerializer(serializers.Serializer[None]):
    """An account: whether it works, and what waits to be sent."""

    accountId = serializers.CharField()  # noqa: N815
    state = serializers.CharField()
    stateReason = serializers.CharField(allow_null=True)  # noqa: N815
    stateAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    sending = serializers.CharField(allow_null=True, help_text="on, shadow or off.")
    lastWebhookAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    queued = serializers.IntegerField(allow_null=True)
    oldestAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    finishesAt = serializers.DateTimeField(allow_null=True)  # noqa: N815


class AccountListAnswerSerializer(serializers.Serializer[None]):
    """The accounts of the workspace, by id."""

    success = serializers.BooleanField()
    accounts = AccountSerializer(many=True)


class RunSerializer(serializers.Serializer[None]):
    """A run: every stored field. `steps` holds `{state, at, reason, code, subcode}` by step."""

    _id = serializers.CharField()
    automationId = serializers.JSONField(required=False)  # noqa: N815
    triggerType = serializers.JSONField(required=False)  # noqa: N815
    userId = serializers.JSONField(required=False, help_text="The person.")  # noqa: N815
    metadata = serializers.JSONField(required=False, help_text="messageText, postId, storyId.")
    createdAt = serializers.DateTimeField()  # noqa: N815
    steps = serializers.JSONField()
    completedAt = serializers.DateTimeField(allow_null=True)  # noqa: N815
    eventId = serializers.CharField(allow_null=True)  # noqa: N815


class RangeSerializer(serializers.Serializer[None]):
    """A range of time; `from`, which Python keeps for itself, stands as `from_` in the class."""

    from_ = serializers.DateTimeField()
    to = serializers.DateTimeField()

    def get_fields(self) -> dict[str, serializers.Field[Any, Any, Any, Any]]:
        """Return the fields by their names in the answer."""
        return {name.rstrip("_"): field for name, field in super().get_fields().items()}


class RunPageAnswerSerializer(RangeSerializer):
    """A page of runs, newest first; `nextCursor` is null on the last one."""

    success = serializers.BooleanField()
    runs = RunSerializer(many=True)
    nextCursor = serializers.CharField(allow_null=True)  # noqa: N815
    from_ = serializers.DateTimeField(allow_null=True)
    to = serializers.DateTimeField(allow_null=True)
    asOf = serializers.DateTimeField()  # noqa: N815
    pending = serializers.IntegerField(
        allow_null=True, help_text="Events that are being counted; null on later pages."
    )


class TriggerAnswerSerializer(serializers.Serializer[None]):
    """An event behind a run; `state` and `progress` are those of sending."""

    kind = serializers.CharField()
    eventId = serializers.CharField()  # noqa: N815
    outcome = serializers.CharField(
        required=False, help_text="counted, duplicate or continuation, once it is counted."
    )
    createdAt = serializers.DateTimeField()  # noqa: N815
    occurredAt = serializers.DateTimeField(required=False)  # noqa: N815
    state = serializers.CharField(required=False)
    progress = serializers.JSONField(required=False)
    doneAt = serializers.DateTimeField(required=False)  # noqa: N815


class RunAnswerSerializer(serializers.Serializer[None]):
    """A run, and the events behind it as long as they are kept."""

    success = serializers.BooleanField()
    run = RunSerializer()
    triggers = TriggerAnswerSerializer(many=True)


class CountsSerializer(serializers.Serializer[None]):
    """Runs, duplicates, and people who ran it for the first time; null where it was not kept."""

    counted = serializers.IntegerField()
    duplicates = serializers.IntegerField(allow_null=True)
    newPeople = serializers.IntegerField(allow_null=True)  # noqa: N815


class BucketSerializer(CountsSerializer):
    """An hour or a day; `local` is what the zone calls it."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    local = serializers.CharField()
    outcomes = serializers.DictField(child=serializers.IntegerField(), required=False)


class PeopleSerializer(RangeSerializer):
    """Distinct people of the range; at least so many, if it is not exact."""

    count = serializers.IntegerField()
    isExact = serializers.BooleanField()  # noqa: N815


class SeriesAnswerSerializer(InstantSerializer, RangeSerializer):
    """Counts by hour or day over whole buckets, `from` to `to`, all at one instant, `asOf`.

    Exact from `exactSince` on; duplicates and new people are known from `knownSince` on.
    """

    success = serializers.BooleanField()
    unit = serializers.CharField()
    zone = serializers.CharField()
    isExact = serializers.BooleanField()  # noqa: N815
    exactSince = serializers.DateTimeField()  # noqa: N815
    knownSince = serializers.DateTimeField(allow_null=True)  # noqa: N815
    totals = CountsSerializer()
    buckets = BucketSerializer(many=True)
    people = PeopleSerializer(required=False)
    automations = serializers.DictField(
        child=serializers.ListField(child=serializers.IntegerField()), required=False
    )


class FunnelSerializer(serializers.Serializer[None]):
    """How far runs came: the opening message, the request to follow, everything."""

    triggered = serializers.IntegerField()
    opened = serializers.IntegerField()
    asked = serializers.IntegerField()
    completed = serializers.IntegerField()


class ReasonSerializer(serializers.Serializer[None]):
    """Runs whose step came to this state for this reason; `code`, `subcode` are Meta's."""

    step = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField(allow_null=True)
    code = serializers.IntegerField(allow_null=True)
    subcode = serializers.IntegerField(allow_null=True)
    runs = serializers.IntegerField()


class ReasonsSerializer(serializers.Serializer[None]):
    """Over the newest `runs` runs; all of the range, if it is exact."""

    runs = serializers.IntegerField()
    isExact = serializers.BooleanField()  # noqa: N815
    list = ReasonSerializer(many=True)


class IgnoredSerializer(serializers.Serializer[None]):
    """Events of the account that are never a run."""

    reason = serializers.CharField()
    meaning = serializers.CharField()
    events = serializers.IntegerField()


class UncountedSerializer(serializers.Serializer[None]):
    """What came and is no run. `redelivered` and `ignored` are of the whole account."""

    duplicates = serializers.IntegerField()
    redelivered = serializers.IntegerField()
    ignored = IgnoredSerializer(many=True)


class OutcomesAnswerSerializer(InstantSerializer, RangeSerializer):
    """What became of the runs of whole hours, `from` to `to`."""

    success = serializers.BooleanField()
    isExact = serializers.BooleanField()  # noqa: N815
    funnel = FunnelSerializer()
    steps = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text="Runs by step and state.",
    )
    reasons = ReasonsSerializer()
    uncounted = UncountedSerializer()
