"""The verbs, one file each: it parses, calls the Python API or reads files, and prints."""
