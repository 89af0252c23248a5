"""One module per kind of row; each has functions `run(bench) -> list[Table]`."""
