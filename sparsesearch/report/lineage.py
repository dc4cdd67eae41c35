"""Where a candidate came from: the chain of parents that the archive recorded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome


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
        spent = 0
        # Of each genome by its id: the first measurement, its number, and the tokens spent until then.
        self._first: dict[str, tuple[Evaluation, int, int]] = {}
        self._best: dict[Genome, Evaluation] = {}
        for evaluation in results.evaluations:
            spent += (evaluation.sequences - evaluation.known) * int(results.info["length"])
            if evaluation.status != "ok":
                continue
            self._first.setdefault(evaluation.genome.id, (evaluation, len(self._first) + 1, spent))
            known = self._best.get(evaluation.genome)
            if known is None or evaluation.sequences >= known.sequences:
                self._best[evaluation.genome] = evaluation

    def origin(self, genome: Genome) -> str:
        """Of the first measurement; empty where there is none."""
        first = self._first.get(genome.id)
        return first[0].origin if first else ""

    def chain(self, genome: Genome) -> list[Step]:
        """From a genome that has no parents to this one; of two parents the one that differs in fewer units.

        Empty where the genome was not measured in the search.
        """
        steps: list[Step] = []
        at = self._first.get(genome.id)
        while at is not None:
            evaluation, number, tokens = at
            before = self._parent(evaluation, number)
            changed = None if before is None else _differing(before[0].genome, evaluation.genome)
            steps.append(Step(self._best[evaluation.genome], evaluation.origin, number, tokens, changed))
            at = before
        return steps[::-1]

    def _parent(self, evaluation: Evaluation, number: int) -> tuple[Evaluation, int, int] | None:
        known = [self._first[parent] for parent in evaluation.parents if parent in self._first]
        earlier = [each for each in known if each[1] < number]
        return min(earlier, key=lambda each: _differing(each[0].genome, evaluation.genome), default=None)


def _differing(a: Genome, b: Genome) -> int:
    return int(np.count_nonzero(a.levels != b.levels))
