"""Instagram automations: the webhook, matching, the HTTP API and what has to be sent."""
