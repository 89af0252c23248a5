import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from automations.instagram.buttons import parse_payload
from automations.management.commands import run_worker
from automations.outbox.worker import compose
from tests.support.outbox_fakes import ASK, MAIN, OPENING, PLAIN_OPENING, PUBLIC, make_job
from tracking.exceptions import MongoNotConfigured


def find_payload(message: object) -> str | None:
    assert isinstance(message, dict)
    buttons = message.get("attachment", {}).get("payload", {}).get("buttons", [])
    payload: str | None = buttons[0].get("payload") if buttons else None
    return payload


def test_a_public_reply_is_one_of_its_texts() -> None:
    assert compose(make_job(send={"steps": [PUBLIC, MAIN]}), PUBLIC) == PUBLIC["texts"][0]


@pytest.mark.parametrize("step", [OPENING, ASK])
def test_the_button_names_the_trigger_and_its_run(step: dict[str, object]) -> None:
    job = make_job(send={"steps": [step, MAIN]}, runId="run-1")
    tap = parse_payload(find_payload(compose(job, job.steps[0])) or "")
    assert tap is not None
    assert (tap.trigger_id, tap.run_id, tap.step) == (job.id, "run-1", step["name"])


def test_after_a_comment_an_opening_always_has_a_button() -> None:
    job = make_job(send={"steps": [PLAIN_OPENING, MAIN], "via": "private_reply"})
    assert find_payload(compose(job, job.steps[0])) is not None


@pytest.mark.parametrize("steps", [[PLAIN_OPENING, MAIN], [OPENING]])
def test_nobody_is_asked_to_tap_for_nothing(steps: list[dict[str, object]]) -> None:
    job = make_job(send={"steps": steps})
    assert find_payload(compose(job, job.steps[0])) is None


def test_a_trigger_that_is_not_counted_yet_has_a_button_without_a_run() -> None:
    # Its `runId` may become nobody's: that of a duplicate is another one.
    job = make_job(send={"steps": [OPENING, MAIN]}, runId="run-1", outcome=None)
    tap = parse_payload(find_payload(compose(job, job.steps[0])) or "")
    assert tap is not None
    assert tap.run_id is None


def test_a_worker_without_a_mongodb_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise MongoNotConfigured("Set MONGODB_URI.")

    monkeypatch.setattr(run_worker, "Worker", refuse)
    with pytest.raises(CommandError, match=r"Set MONGODB_URI\."):
        call_command("run_worker")
