"""Quality, task scores and latency of exports, models and candidates."""
