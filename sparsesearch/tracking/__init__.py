"""A run in the trackers that people have: views of its files, which can follow a search.

Rooms see `follow` and `open_tracker`; a tracker is a small file and a line of the registry.
"""

from sparsesearch.tracking.base import Point
from sparsesearch.tracking.following import follow
from sparsesearch.tracking.registry import TRACKERS, open_tracker

__all__ = ["TRACKERS", "Point", "follow", "open_tracker"]
