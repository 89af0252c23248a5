"""The stored counts and how they are kept small."""
