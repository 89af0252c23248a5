"""The client, transactions, errors, indexes."""
