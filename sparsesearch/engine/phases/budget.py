"""The budget of a search: evaluations, tokens and hours."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.config import SearchConfig
from sparsesearch.engine.phases.measuring import PlannedEvaluation
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.ledger import Ledger
from sparsesearch.searchers import Searcher
from sparsesearch.searchers.records import Request
from sparsesearch.space import Genome

# Evaluations if neither the recipe nor the searcher limits the search.
DEFAULT_EVALS = 600


class Budget:
    """Counts evaluations and tokens the same way in a first session and in a replay."""

    def __init__(
        self, search: SearchConfig, searcher: Searcher, ledger: Ledger, archive: Archive, spent: int = 0
    ) -> None:
        """
        Args:
            spent: tokens spent before the first evaluation.
        """
        limited = search.evals or search.tokens or search.hours or searcher.ends_by_itself
        self.evals = search.evals if limited else DEFAULT_EVALS
        self.tokens, self.hours, self._ledger, self._archive = search.tokens, search.hours, ledger, archive
        self.used_evals, self.used_tokens = 0, spent
        self.charged: set[Request] = set()
        # Genomes with their draws: more sequences of the same draw continue an evaluation and count once.
        self._begun: set[tuple[Genome, int]] = set()

    def admit(self, measurements: Sequence[PlannedEvaluation]) -> list[PlannedEvaluation]:
        """Return the first measurements that the budget still covers; each is charged once."""
        admitted = []
        for measurement in measurements:
            request, tokens = measurement.request, measurement.tokens
            if request not in self.charged:
                begun = (request.genome, request.draw) in self._begun
                over_evals = self.evals is not None and self.used_evals >= self.evals and not begun
                over_tokens = self.tokens is not None and self.used_tokens + tokens > self.tokens
                # Hours only limit new measurements: a replay reads the whole archive.
                over_time = request not in self._archive.entries and self._out_of_time()
                if over_evals or over_tokens or over_time:
                    break
                self.charge(request, tokens)
            admitted.append(measurement)
        return admitted

    def charge(self, request: Request, tokens: int) -> None:
        """Count a measurement."""
        self.charged.add(request)
        self._begun.add((request.genome, request.draw))
        self.used_evals, self.used_tokens = len(self._begun), self.used_tokens + tokens

    def _out_of_time(self) -> bool:
        return self.hours is not None and self._ledger.seconds() > self.hours * 3600
