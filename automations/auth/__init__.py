"""Who may use the API and the pages: API tokens, sessions, rate."""
