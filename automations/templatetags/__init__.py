"""Template filters of the pages and forms."""
