from automations.demo.followers import Followers
from automations.demo.sandbox import Button, Sandbox
from automations.demo.simulation import Target
from tests.support.waiting import wait_until

ACCOUNT, PERSON = "17841400000000001", "9001"
COMMENTS = Target(kind="comment", account_id=ACCOUNT, keywords=("link",))
MESSAGES = Target(kind="dm", account_id=ACCOUNT, keywords=("price",))


def count_heard(meta: Sandbox) -> int:
    with meta.use_world() as (world, _):
        return len(world.heard_at)


def test_comments_keep_to_what_an_account_can_answer() -> None:
    followers = Followers((COMMENTS, MESSAGES), rate=200, seed=1)
    with Sandbox() as meta:
        followers.start(meta)
        wait_until(lambda: count_heard(meta) > 40)
        followers.stop()
        with meta.use_world() as (world, _):
            assert 5 <= len(world.comments) <= 12


def test_people_tap_what_they_get_and_follow_when_they_are_asked() -> None:
    followers = Followers((MESSAGES,), rate=0.001, seed=1)
    with Sandbox(on_received=followers.on_received) as meta:
        meta.add_account(ACCOUNT)
        followers.start(meta)
        for number in range(20):
            meta.message(ACCOUNT, f"p{number}", "hi")
            button = Button("postback", "I follow" if number % 2 else "Yes", "payload")
            with meta.use_world() as (world, at):
                received = world.send_message(ACCOUNT, f"p{number}", ("t", (button,)), at)
                world.heard_at.clear()
            followers.on_received(received)
        wait_until(lambda: count_heard(meta) >= 10)
        followers.stop()
        with meta.use_world() as (world, _):
            follows = {person_id for _, person_id in world.follows}
        assert follows
        assert all(int(person_id[1:]) % 2 for person_id in follows if person_id[0] == "p")


def test_who_is_forgotten_comes_back_under_new_ids() -> None:
    with Sandbox() as meta:
        meta.add_account(ACCOUNT)
        before = meta.comment(ACCOUNT, PERSON, "a")
        with meta.use_world() as (world, at):
            world.reply_privately(ACCOUNT, before, ("hi", ()), at)
        meta.message(ACCOUNT, PERSON, "b")
        meta.follow(PERSON, ACCOUNT)
        with meta.use_world() as (world, _):
            world.forget(PERSON)
            known = (world.journal, world.comments, world.follows, world.heard_at)
        assert not any(known)
        assert meta.comment(ACCOUNT, PERSON, "a") != before
