"""What verbs beside `search` and `resume` do with runs."""
