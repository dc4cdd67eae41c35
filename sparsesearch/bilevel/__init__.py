"""Searches by gradient: a worker learns a relaxed choice, which becomes genomes of the same space."""
