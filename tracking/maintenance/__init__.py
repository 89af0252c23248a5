"""Commands' work: backfill, verify, reconcile, erase."""
