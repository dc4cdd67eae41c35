"""The phases of a search, one a file."""
