"""Tracing a network of any kind to see which of its channels can be cut, proved by running it."""
