"""Executors, which run calls in this process or on Ray, and the workers that serve them."""
