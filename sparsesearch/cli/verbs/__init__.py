"""The verbs, one file each: it parses, calls the Python API, and prints."""
