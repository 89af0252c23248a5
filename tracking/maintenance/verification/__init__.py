"""Is everything as it should be? The checks, and the table of them."""
