"""Searchers that mutate and recombine what was measured."""
