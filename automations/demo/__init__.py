"""A stand-in for Instagram with its people, and simulated traffic."""
