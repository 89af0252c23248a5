"""Is everything as it should be? One small module per check, and the table of them."""
