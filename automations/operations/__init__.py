"""Running it: serve, health, metrics, the checks of verify_run_tracking."""
