"""The stored automations: what one is, which answers an event, reading and caching them."""
