"""Searchers that solve an additive model of the losses to optimality."""
