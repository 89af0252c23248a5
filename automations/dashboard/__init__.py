"""The pages that people look at: server-rendered, alive by htmx, without a build step."""
