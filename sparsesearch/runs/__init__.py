"""A run on disk: its directory, archive, ledger and results, and the caches beside it. Knows neither torch nor ray."""
