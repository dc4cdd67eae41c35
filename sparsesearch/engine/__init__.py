"""The controller of a search, and what it does in order."""
