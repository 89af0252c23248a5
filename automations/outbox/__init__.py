"""What triggers have to send: jobs, leases, Meta's limits, the worker."""
