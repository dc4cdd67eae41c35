"""One verb a file: it parses, calls the Python API, and prints."""
