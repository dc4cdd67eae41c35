"""Workflows of the verbs beside `search` and `resume`."""
