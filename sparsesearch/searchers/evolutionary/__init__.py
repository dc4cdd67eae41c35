"""Searchers that mutate and recombine measured genomes."""
