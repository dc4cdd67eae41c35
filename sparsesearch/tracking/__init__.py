"""Copies a run to experiment trackers, once or while it goes on, by reading its files.

The interface is `follow` and `open_tracker`; each tracker is a small file and a line of the registry, or one of your
own that `tracker` registers.
"""

from sparsesearch.tracking.base import Point, Tracker
from sparsesearch.tracking.following import follow
from sparsesearch.tracking.registry import TRACKERS, open_tracker, tracker

__all__ = ["TRACKERS", "Point", "Tracker", "follow", "open_tracker", "tracker"]
