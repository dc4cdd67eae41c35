"""The lineage of a candidate: the chain of parents that the archive recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome


@dataclass(frozen=True)
class LineageStep:
    """A candidate of the chain.

    Attributes:
        evaluation: its measurement on the most samples.
        origin: origin of its first measurement.
        number: number of candidates measured until then, including this one.
        tokens: selection tokens that the search had spent until then.
        changed: number of units that differ from the step before; None for the first.
    """

    evaluation: Evaluation
    origin: str
    number: int
    tokens: int
    changed: int | None


class Ancestry:
    """The first measurements of all genomes of a run, in order."""

    def __init__(self, results: RunResults) -> None:
        spent = 0
        # First measurement, its number, and the tokens spent until then, by id of the genome.
        self._first: dict[str, tuple[Evaluation, int, int]] = {}
        self._best: dict[Genome, Evaluation] = {}
        for evaluation in results.evaluations:
            spent += evaluation.measured_sequences * int(results.info["length"])
            if evaluation.status != "ok":
                continue
            self._first.setdefault(evaluation.genome.id, (evaluation, len(self._first) + 1, spent))
            best = self._best.get(evaluation.genome)
            if best is None or evaluation.sequences >= best.sequences:
                self._best[evaluation.genome] = evaluation

    def origin(self, genome: Genome) -> str:
        """Return the origin of a genome's first measurement; empty if it was not measured."""
        first = self._first.get(genome.id)
        return first[0].origin if first else ""

    def chain(self, genome: Genome) -> list[LineageStep]:
        """Return the chain from a genome without parents to this one; empty if it was not measured in the search.

        Of two parents the chain follows the one that differs in fewer units.
        """
        steps: list[LineageStep] = []
        current = self._first.get(genome.id)
        while current is not None:
            evaluation, number, tokens = current
            parent = self._parent(evaluation, number)
            changed = None if parent is None else _differing_units(parent[0].genome, evaluation.genome)
            steps.append(LineageStep(self._best[evaluation.genome], evaluation.origin, number, tokens, changed))
            current = parent
        return steps[::-1]

    def _parent(self, evaluation: Evaluation, number: int) -> tuple[Evaluation, int, int] | None:
        parents = [self._first[parent] for parent in evaluation.parents if parent in self._first]
        earlier = [parent for parent in parents if parent[1] < number]
        return min(earlier, key=lambda parent: _differing_units(parent[0].genome, evaluation.genome), default=None)


def _differing_units(a: Genome, b: Genome) -> int:
    return int(np.count_nonzero(a.levels != b.levels))
