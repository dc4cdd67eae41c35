"""The controller, its executors and the run directory that is the state of a run."""
