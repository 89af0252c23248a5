import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automations.privacy.redaction import build_trigger_update, split_letter
from tests.support.outbox_fakes import ASK, MAIN, OPENING, make_comment_document, make_job_document
from tests.support.triggers import T0

PERSON = "5550001112223334"
OTHER = "5550001112223335"


def build_message(person: Any, text: str = "hi") -> dict[str, Any]:
    return {"sender": {"id": person}, "recipient": {"id": "1784"}, "message": {"text": text}}


def build_letter(*messages: Any, **more: Any) -> bytes:
    return json.dumps(
        {"object": "instagram", "entry": [{"id": "1784", "messaging": list(messages), **more}]}
    ).encode()


class TestLetters:
    def test_one_that_does_not_name_the_person_stays_as_it_is(self) -> None:
        raw = build_letter(build_message(OTHER)) + b"  "
        assert split_letter(raw, PERSON) == split_letter(raw, "99")
        assert split_letter(raw, PERSON).rest is raw
        assert split_letter(build_letter(build_message(PERSON + "0")), PERSON).mentions == []

    @pytest.mark.parametrize("person", [PERSON, int(PERSON), float(PERSON)])
    def test_one_about_the_person_alone_goes(self, person: Any) -> None:
        split = split_letter(build_letter(build_message(person)), PERSON)
        assert split.rest is None
        assert split.mentions == [build_message(person)]

    def test_of_others_everything_stays(self) -> None:
        raw = build_letter(build_message(PERSON), build_message(OTHER), build_message(None))
        split = split_letter(raw, PERSON)
        assert json.loads(split.rest or b"") == json.loads(
            build_letter(build_message(OTHER), build_message(None))
        )

    @pytest.mark.parametrize(
        "raw",
        [
            json.dumps({"object": "instagram", "entry": [{"field": "comments", "value": PERSON}]}),
            json.dumps([{"object": "instagram", "entry": [{"standby": [PERSON]}]}]),
            json.dumps({"entry": {"sender": PERSON}}),
            json.dumps({PERSON: 1}),
            json.dumps("".join(f"\\u{ord(digit):04x}" for digit in PERSON)).replace("\\\\", "\\"),
        ],
    )
    def test_wherever_it_stands(self, raw: str) -> None:
        assert split_letter(raw.encode(), PERSON).rest is None

    @pytest.mark.parametrize(
        "raw", [b'{"sender": "%s", ', b"[" * 100_000 + b"%s", b"\xff%s", b'{"a":' * 300 + b'"%s"']
    )
    def test_out_of_what_is_no_json_the_id_is_taken(self, raw: bytes) -> None:
        raw = raw.replace(b"%s", PERSON.encode())
        split = split_letter(raw, PERSON)
        assert split.rest == raw.replace(PERSON.encode(), b"0" * len(PERSON))
        assert len(split.mentions) == 1

    @pytest.mark.parametrize("depth", [199, 300, 900, 5000])
    @pytest.mark.parametrize("person", [PERSON, "".join(f"\\u00{ord(one):02X}" for one in PERSON)])
    def test_deep_json_is_searched_all_the_same(self, depth: int, person: str) -> None:
        deep = '{"a":[' * depth + f'"{person}"' + "]}" * depth
        envelope = build_letter(build_message(PERSON), build_message(OTHER)).decode()
        for raw in (deep, envelope.replace(f'"{OTHER}"', deep), envelope.replace('"hi"', deep)):
            rest = (split_letter(raw.encode(), PERSON).rest or b"").decode()
            assert not {PERSON, person} & set(rest.split('"'))

    leaves = st.sampled_from([PERSON, OTHER, f"comment:{PERSON}", int(PERSON), None, True, "x"])
    values = st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["entry", "changes", "messaging", "value", PERSON]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=12,
    )

    @given(values)
    def test_afterwards_the_id_is_nowhere(self, value: Any) -> None:
        split = split_letter(json.dumps(value).encode(), PERSON)
        assert PERSON.encode() not in (split.rest or b"")
        assert bool(split.mentions) is (PERSON in json.dumps(value))


class TestJobs:
    def test_what_waits_is_skipped(self) -> None:
        job = make_job_document(send={"steps": [ASK, MAIN], "position": 0})
        update = build_trigger_update(job, "erased:1", at=T0)
        skipped = {"state": "skipped", "at": T0, "reason": "erased"}
        assert update["$set"] | {"expireAt": None} == {
            "userId": "erased:1", "state": "skipped", "doneAt": T0, "reportAt": T0,
            "progress.ask_follow": skipped, "progress.main_dm": skipped, "expireAt": None,
        }  # fmt: skip
        assert {"lease", "nextAt", "metadata", "mids"} <= update["$unset"].keys()

    def test_what_is_under_way_is_unknown(self) -> None:
        job = make_comment_document(
            OPENING, MAIN, state="sending", progress={"opening_dm": {"state": "sending"}}
        )
        update = build_trigger_update(job, "erased:1", at=T0)
        assert update["$set"]["progress.opening_dm"]["state"] == "unknown"
        assert update["$set"]["progress.main_dm"]["state"] == "skipped"
        assert not update["$set"].keys() & update["$unset"].keys()
        assert not [path for path in update["$unset"] if path.startswith("progress.opening_dm")]

    def test_what_is_done_keeps_its_results_without_the_messages_ids(self) -> None:
        progress = {"main_dm": {"state": "sent", "at": T0, "mid": "m1"}}
        job = make_job_document(state="sent", progress=progress)
        update = build_trigger_update(job, "erased:1", at=T0)
        assert update["$set"] == {"userId": "erased:1"}
        assert {"progress.main_dm.mid", "mids"} <= update["$unset"].keys()
