"""Automation runs, counted exactly: usable by any engine, knows nothing of Instagram."""
