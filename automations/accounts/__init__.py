"""Instagram accounts that can send, their tokens encrypted."""
