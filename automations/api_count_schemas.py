"""The shapes of counts over time and of outcomes, for the API's documents, as `api_schemas`."""

from __future__ import annotations

from rest_framework import serializers

from automations.api_schemas import RangeSerializer


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


class SeriesAnswerSerializer(RangeSerializer):
    """Counts by hour or day over whole buckets, `from` to `to`, all at one instant, `asOf`.

    Exact from `exactSince` on; duplicates and new people are known from `knownSince` on.
    """

    success = serializers.BooleanField()
    unit = serializers.CharField()
    zone = serializers.CharField()
    asOf = serializers.DateTimeField()  # noqa: N815
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
    untracked = serializers.IntegerField(help_text="Waiting for `tracking on`.")
    redelivered = serializers.IntegerField()
    ignored = IgnoredSerializer(many=True)


class OutcomesAnswerSerializer(RangeSerializer):
    """What became of the runs of whole hours, `from` to `to`."""

    success = serializers.BooleanField()
    asOf = serializers.DateTimeField()  # noqa: N815
    isExact = serializers.BooleanField()  # noqa: N815
    funnel = FunnelSerializer()
    steps = serializers.DictField(
        child=serializers.DictField(child=serializers.IntegerField()),
        help_text="Runs by step and state.",
    )
    reasons = ReasonsSerializer()
    uncounted = UncountedSerializer()
