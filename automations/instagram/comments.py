"""Comments, in Meta's keys, become events."""

from datetime import datetime
from typing import Any

from automations.instagram.events import Event, Reason
from automations.instagram.json_values import read_id, read_object, read_text, refuse

TEST_COMMENT_ID = "17865799348089039"


def read_comment(
    comment: Any, account_id: str, sent_at: datetime | None, *, is_live: bool = False
) -> Event | Reason:
    """Read the value of a `comments` change.

    Every reader here raises BrokenValue, whose path starts below the element: ".from.id".
    """
    if type(comment) is not dict:
        refuse(comment, "", "an object")
    comment_id = comment.get("id")
    if comment_id is None:
        comment_id = comment.get("comment_id")  # so in some of Meta's templates
    comment_id = read_id(comment_id, ".id")
    if comment_id == TEST_COMMENT_ID:
        return "test"

    username = None
    person_id = None
    person = comment.get("from")
    if person is not None:
        read_object(person, ".from")
        if person.get("self_ig_scoped_id") is not None:
            return "own_comment"
        if person.get("id") is not None:
            person_id = read_id(person["id"], ".from.id")
            if person_id == account_id:
                return "own_comment"
        username = read_text(person.get("username"), ".from.username")

    media_ids: tuple[str, ...] = ()
    media = comment.get("media")
    if media is not None:
        read_object(media, ".media")
        if media.get("id") is not None:
            media_ids = (read_id(media["id"], ".media.id"),)
        if media.get("original_media_id") is not None:
            original_id = read_id(media["original_media_id"], ".media.original_media_id")
            if original_id not in media_ids:
                media_ids += (original_id,)
        is_live = is_live or media.get("media_product_type") == "LIVE"

    parent_id = comment.get("parent_id")
    return Event(
        type="comment",
        kind="comment",
        event_id=comment_id,
        account_id=account_id,
        user_id=f"comment:{comment_id}" if person_id is None else person_id,
        person_unknown=person_id is None,
        username=username,
        text=read_text(comment.get("text"), ".text"),
        media_ids=media_ids,
        parent_id=None if parent_id is None else read_id(parent_id, ".parent_id"),
        is_live=is_live,
        occurred_at=sent_at,
    )


def read_live_comment(comment: Any, account_id: str, sent_at: datetime | None) -> Event | Reason:
    """Read the value of a `live_comments` change: a comment during a broadcast."""
    return read_comment(comment, account_id, sent_at, is_live=True)
