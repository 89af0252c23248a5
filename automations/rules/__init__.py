"""The stored automations: reading, matching, writing and caching them."""
