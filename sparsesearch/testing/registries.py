"""All registries that plug-ins can add to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from sparsesearch.allocation import ALLOCATIONS
from sparsesearch.bilevel.registry import LEARNERS
from sparsesearch.evaluation import QUALITIES
from sparsesearch.export import FORMS
from sparsesearch.models import FAMILIES
from sparsesearch.proxies import PROXIES
from sparsesearch.pruning import EXPERTS, STRUCTURED, UNSTRUCTURED
from sparsesearch.registry import Registry
from sparsesearch.searchers.registry import SEARCHERS
from sparsesearch.tracking import TRACKERS

# By what an entry is.
REGISTRIES: dict[str, Registry[Any]] = {
    registry.kind: registry
    for registry in (
        SEARCHERS,
        UNSTRUCTURED,
        STRUCTURED,
        EXPERTS,
        ALLOCATIONS,
        PROXIES,
        LEARNERS,
        FAMILIES,
        QUALITIES,
        FORMS,
        TRACKERS,
    )
}


@contextmanager
def restored_registries() -> Iterator[None]:
    """Put all entries back as they are now when the block ends."""
    with ExitStack() as stack:
        for registry in REGISTRIES.values():
            stack.enter_context(registry.restored())
        yield
