"""How much a search may spend."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.config import SearchConfig
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.ledger import Ledger
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.searchers.records import Request
from sparsesearch.space import Genome

# Evaluations when neither the user nor the searcher sets an end.
DEFAULT_EVALS = 600


class Budget:
    """Counts evaluations and tokens the same way in a first session and in a replay."""

    def __init__(
        self, search: SearchConfig, searcher: Searcher, ledger: Ledger, archive: Archive, spent: int = 0
    ) -> None:
        """
        Args:
            spent: tokens that went before the first evaluation.
        """
        limited = search.evals or search.tokens or search.hours or searcher.ends_by_itself
        self.evals = search.evals if limited else DEFAULT_EVALS
        self.tokens, self.hours, self._ledger, self._archive = search.tokens, search.hours, ledger, archive
        self.used_evals, self.used_tokens = 0, spent
        self.charged: set[Request] = set()
        # Genomes by draw: more sequences of one draw go on with an evaluation, they are no further one.
        self._begun: set[tuple[Genome, int]] = set()

    def admit(self, proposals: Sequence[tuple[Proposal, Request, int]]) -> list[Proposal]:
        """The first proposals that the budget still covers; each measurement is charged once.

        Args:
            proposals: with their keys and the tokens that measuring them takes.
        """
        admitted = []
        for proposal, key, need in proposals:
            if key not in self.charged:
                over_evals = self.evals is not None and self.used_evals >= self.evals and key[:2] not in self._begun
                over_tokens = self.tokens is not None and self.used_tokens + need > self.tokens
                # Time only counts for what has yet to be measured: a replay takes in all there is.
                over_time = key not in self._archive.entries and self._out_of_time()
                if over_evals or over_tokens or over_time:
                    break
                self.charge(key, need)
            admitted.append(proposal)
        return admitted

    def charge(self, key: Request, tokens: int) -> None:
        """Count a measurement."""
        self.charged.add(key)
        self._begun.add(key[:2])
        self.used_evals, self.used_tokens = len(self._begun), self.used_tokens + tokens

    def _out_of_time(self) -> bool:
        return self.hours is not None and self._ledger.seconds() > self.hours * 3600
