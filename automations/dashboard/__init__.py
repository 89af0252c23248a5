"""The pages: rendered on the server, live by htmx, no build step."""
