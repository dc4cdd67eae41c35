"""Conformance checks, one for each kind of part that plug-ins can add: what searches rely on.

A check raises AssertionError with one sentence that says what a part must hold. The tests of sparsesearch run it on
everything that is registered.
"""

from sparsesearch.testing.allocations import check_allocation
from sparsesearch.testing.executors import check_executor
from sparsesearch.testing.families import check_family
from sparsesearch.testing.forms import check_form
from sparsesearch.testing.learners import check_learner
from sparsesearch.testing.proxies import check_proxy
from sparsesearch.testing.pruners import check_expert_order, check_pruner
from sparsesearch.testing.qualities import check_quality
from sparsesearch.testing.searchers import check_searcher
from sparsesearch.testing.trackers import check_tracker

__all__ = [
    "check_allocation",
    "check_executor",
    "check_expert_order",
    "check_family",
    "check_form",
    "check_learner",
    "check_proxy",
    "check_pruner",
    "check_quality",
    "check_searcher",
    "check_tracker",
]
