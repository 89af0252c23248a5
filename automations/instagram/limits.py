"""Meta's limits, each in one place.

https://developers.facebook.com/docs/instagram-platform/instagram-api-with-instagram-login/messaging-api
https://developers.facebook.com/docs/messenger-platform/instagram/features/button-template
https://developers.facebook.com/docs/messenger-platform/reference/buttons/postback
https://developers.facebook.com/docs/instagram-platform/private-replies
https://developers.facebook.com/docs/graph-api/overview/rate-limiting
"""

from datetime import timedelta

# A message. A text is measured in bytes of UTF-8, everything else in characters.
MESSAGE_BYTES = 1000
TEMPLATE_TEXT_LENGTH = 640
TITLE_LENGTH = 20
PAYLOAD_LENGTH = 1000
MOST_BUTTONS = 3
MOST_QUICK_REPLIES = 13
# A public reply is a comment, and as long as one may be.
COMMENT_LENGTH = 2200

# How long a comment can be answered privately, once.
COMMENT_WINDOW = timedelta(days=7)
# One on a broadcast can be answered while that lasts. Meta does not report its end: this is a
# guess, because Instagram ends a broadcast after 4 hours.
LIVE_WINDOW = timedelta(hours=4)
# How long a message or a tap keeps the conversation open.
MESSAGE_WINDOW = timedelta(hours=24)

# Calls of an account.
PRIVATE_REPLIES_PER_HOUR = 750
MESSAGES_PER_SECOND = 100
READS_PER_SECOND = 2
