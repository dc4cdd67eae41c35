"""Searches by gradient: their names, their options, and how their genomes are measured.

The learning itself is in `sparsesearch.bilevel`, which imports torch.
"""
