"""Commands of tracking, one a file."""
