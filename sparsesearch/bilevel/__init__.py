"""Searches by gradient: a choice is relaxed, learned on a worker, and ends as genomes of the same space."""
