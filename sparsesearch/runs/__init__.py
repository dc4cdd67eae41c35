"""A run on disk: directory, archive, ledger and results, and the caches beside it. Imports neither torch nor ray."""
