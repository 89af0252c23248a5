"""From a trigger to a committed run."""
