"""The mongod of a data directory."""
