"""The algorithm of the system we replace, in Python: the baseline in the project itself."""
