"""The controller of a search, its launch, workers and phases, and the workflows around it."""
