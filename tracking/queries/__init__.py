"""Everything that is only read: windows, series, pages of runs."""
