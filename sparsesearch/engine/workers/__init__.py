"""Where calls run: in this process or on Ray, and what a worker does."""
