"""Where a candidate came from, as far as the archive knows: origins and times, but no parents.

What is shown in their place is a chain of nearest neighbours: of all genomes that were measured earlier, the one that
differs in the fewest units. Where children are made by a few moves that is mostly the parent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsesearch.engine.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome

# Beginnings of origins that nothing goes before.
STARTS = ("dense", "uniform", "random", "sample", "coarse", "probe")


@dataclass(frozen=True)
class Step:
    """A candidate of the chain.

    Attributes:
        evaluation: its measurement on the most samples.
        origin: of its first measurement.
        number: how many candidates had been measured when it was, itself among them.
        tokens: selection tokens that the search had spent then.
        changed: units in which it differs from the step before; None for the first.
    """

    evaluation: Evaluation
    origin: str
    number: int
    tokens: int
    changed: int | None


class Ancestry:
    """All genomes of a run in the order in which they were first measured."""

    def __init__(self, results: RunResults) -> None:
        spent, first = 0, dict[Genome, tuple[int, str]]()
        self._best: dict[Genome, Evaluation] = {}
        for evaluation in results.evaluations:
            spent += (evaluation.sequences - evaluation.known) * int(results.info["length"])
            if evaluation.status != "ok":
                continue
            first.setdefault(evaluation.genome, (spent, evaluation.origin))
            known = self._best.get(evaluation.genome)
            if known is None or evaluation.sequences >= known.sequences:
                self._best[evaluation.genome] = evaluation
        self._genomes, self._first = list(first), list(first.values())
        self._levels = np.array([g.levels for g in self._genomes])

    def origin(self, genome: Genome) -> str:
        """Of the first measurement; empty where there is none."""
        return self._first[self._genomes.index(genome)][1] if genome in self._best else ""

    def chain(self, genome: Genome) -> list[Step]:
        """From a start of the search to the genome; empty where it was not measured in the search."""
        if genome not in self._best:
            return []
        steps, at = [], self._genomes.index(genome)
        while True:
            before = None if self._first[at][1].startswith(STARTS) else self._nearest(at)
            changed = None if before is None else int((self._levels[before] != self._levels[at]).sum())
            tokens, origin = self._first[at]
            steps.append(Step(self._best[self._genomes[at]], origin, at + 1, tokens, changed))
            if before is None:
                return steps[::-1]
            at = before

    def _nearest(self, at: int) -> int | None:
        """The latest of the earlier genomes that differ in the fewest units, and of these by the fewest levels."""
        if at == 0:
            return None
        away = np.abs(self._levels[:at].astype(np.int64) - self._levels[at])
        order = np.lexsort((-np.arange(at), away.sum(axis=1), (away > 0).sum(axis=1)))
        return int(order[0])
