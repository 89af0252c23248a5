"""Commands' work: backfill, replay, verify, reconcile, erase."""
