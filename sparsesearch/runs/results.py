"""Reading a run: its front, baselines and numbers, from its files alone."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch import pareto
from sparsesearch.runs import picks
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.cache import read_index
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import TRAINING_PASSES
from sparsesearch.runs.schemas import check_evaluations, check_info, check_space
from sparsesearch.searchers.records import Evaluation
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import starting_genomes

# Origin of candidates with the final weights or masks of a learned search.
LEARNED = "learned"
# Phase of the ledger for learning.
LEARNING = "learning"


def name_in_tests(evaluation: Evaluation) -> str:
    """Return the name of a candidate in `test.json`: its id, or `ID+TOKENS` after training."""
    identity = evaluation.genome.id
    return f"{identity}+{evaluation.trained}" if evaluation.trained else identity


class RunResults:
    """The results of a run so far."""

    def __init__(self, path: Path, rungs: bool = True) -> None:
        """
        Args:
            rungs: use results of training; if false, those of the search only.
        """
        self._rungs = rungs
        self.run = RunDirectory.open(path)
        self.info: dict[str, Any] = self.run.read(self.run.info)
        check_info(self.run.info, self.info, self.run.mending)
        self.objectives: list[str] = self.info["objectives"]

    @cached_property
    def space(self) -> Space:
        space = self.run.read_space()
        check_space(self.run.space, space, self.objectives, self.run.mending)
        return space

    @cached_property
    def archive(self) -> Archive:
        return self._archive(self.run.archive)

    def _archive(self, path: Path) -> Archive:
        archive = Archive(path)
        archive.check(self.space, self._least(path))
        check_evaluations(path, archive.entries.values(), self.space, self.objectives)
        return archive

    def _least(self, path: Path) -> int:
        """Return the number of lines that a file had when the run last ended."""
        return int(self.info.get("lines", {}).get(path.name, 0))

    def lines(self, path: Path) -> list[dict[str, Any]]:
        """Return the lines of such a file of the run as `RunDirectory.lines` does; raises DamagedFile SS601."""
        return self.run.lines(path, self._least(path))

    @property
    def quality(self) -> str:
        """Name of the first objective."""
        return self.objectives[0]

    @property
    def test_metric(self) -> str:
        """Name of the value on test data."""
        return "perplexity" if self.info["task"] == "causal" else "accuracy"

    @property
    def evaluations(self) -> list[Evaluation]:
        """All evaluations, in the order they were made."""
        return list(self.archive.entries.values())

    @cached_property
    def final(self) -> list[Evaluation]:
        """Candidates measured on all selection data, dense and baselines among them."""
        pool = self.info["selection_sequences"]
        return [e for e in self.evaluations if e.sequences == pool and e.status == "ok" and not e.trained]

    @cached_property
    def _with_weights(self) -> list[Evaluation]:
        """Candidates that were measured with weights other than the level store's."""
        entries = self._archive(self.run.trained).entries.values() if self._rungs else ()
        return [e for e in entries if e.status == "ok"]

    @property
    def rung_evaluations(self) -> list[Evaluation]:
        """Candidates at every rung of training that they reached."""
        return [e for e in self._with_weights if e.role != "learned"]

    @property
    def learned(self) -> list[Evaluation]:
        """Candidates with the final weights or masks of a learned search."""
        return [e for e in self._with_weights if e.role == "learned"]

    @property
    def trained_evaluations(self) -> list[Evaluation]:
        """Candidates at the highest rung of training that any has reached."""
        top = max((e.trained for e in self.rung_evaluations), default=0)
        return [e for e in self.rung_evaluations if e.trained == top]

    def values(self, evaluation: Evaluation) -> dict[str, float]:
        return evaluation.values(self.quality)

    def point(self, evaluation: Evaluation) -> list[float]:
        values = self.values(evaluation)
        return [values[name] for name in self.objectives]

    @cached_property
    def front(self) -> list[Evaluation]:
        """Non-dominated candidates at the top rung that respect every limit, by rising first cost objective.

        Learned candidates compete with the level store's candidates of the same genomes. Dense is no candidate.
        """
        competing = [*(self.trained_evaluations or self.final), *self.learned]
        inside = [e for e in competing if self.space.feasible(e.genome)]
        optimal = [inside[i] for i in pareto.non_dominated([self.point(e) for e in inside])]
        candidates = [e for e in optimal if e.genome != self.space.dense]
        return sorted(candidates, key=lambda e: [*self.point(e)[1:], e.quality])

    @property
    def dense(self) -> Evaluation | None:
        return next((e for e in self.final if e.genome == self.space.dense), None)

    @property
    def baselines(self) -> list[Evaluation]:
        """Uniform candidates, at the top rung if they reached it."""
        trained = {e.genome: e for e in self.trained_evaluations}
        return [trained.get(e.genome, e) for e in self.final if e.role == "baseline" and e.genome != self.space.dense]

    def compared_baselines(self) -> list[Evaluation]:
        """Return the uniform baselines at the limits; without any, the largest that is no larger than the knee."""
        at_limits = [b for b in self.baselines if b.genome in self._uniform_at_limits]
        if at_limits or not self.front:
            return at_limits
        cost, knee = self.objectives[1], self.pick("knee")
        inside = [b for b in self.baselines if b.costs[cost] <= knee.costs[cost]]
        return [max(inside, key=lambda b: b.costs[cost])] if inside else []

    @cached_property
    def _uniform_at_limits(self) -> set[Genome]:
        """The uniform genomes at the limits; empty without limits."""
        return set(starting_genomes(self.space).values()) - {self.space.dense}

    def reference(self) -> list[float]:
        """Return the hypervolume's reference point, (objectives,): that of `run.json`, else the worst final values."""
        if "reference" in self.info:
            return list(self.info["reference"])
        return [float(x) for x in np.max([self.point(e) for e in self.final], axis=0)]

    def hypervolume(self) -> float:
        if not self.front:
            return 0.0
        return pareto.hypervolume([self.point(e) for e in self.front], self.reference())

    @property
    def tokens(self) -> int:
        """Selection tokens spent on all evaluations."""
        return sum(e.measured_sequences for e in self.evaluations) * int(self.info["length"])

    @property
    def learning_tokens(self) -> int:
        """Tokens spent on learning, each gradient token counted three times."""
        return sum(int(line["tokens"]) for line in self.lines(self.run.ledger) if line["phase"] == LEARNING)

    @property
    def supernet_tokens(self) -> int:
        """Tokens spent on training the supernet, in this run or an earlier one, each counted three times."""
        key = self.info["fingerprint"].get("supernet")
        index = read_index(self.run.cache.supernet(key)) if key else None
        return TRAINING_PASSES * int(index["tokens"]) if index else 0

    def find(self, identity: str) -> Evaluation:
        """Return a candidate by the start of its id; raises InputError SS501."""
        return picks.find(self, identity)

    def pick(self, rule: str) -> Evaluation:
        """Return a candidate by a rule or a name; raises InputError SS501, InfeasibleError SS406."""
        return picks.pick(self, rule)

    def require_front(self) -> None:
        """Raise InfeasibleError SS406 if no candidate respects every limit."""
        picks.require_front(self)

    def picks(self) -> dict[str, Evaluation]:
        """Return the picks that reports show: the best quality, the knee, the smallest."""
        return {name: self.pick(name) for name in self.named_picks} if self.front else {}

    def smallest(self, cost: str) -> int:
        """Return the smallest value of a cost on the front."""
        return min(e.costs[cost] for e in self.front)

    @property
    def named_picks(self) -> dict[str, str]:
        """Rules by the names that reports use."""
        return {"best": f"min:{self.quality}", "knee": "knee", "smallest": f"min:{self.objectives[1]}"}

    def candidate_json(self, evaluation: Evaluation) -> dict[str, Any]:
        """Return a candidate as JSON documents show it."""
        values = self.values(evaluation)
        rung = "final" if evaluation.sequences == self.info["selection_sequences"] else "search"
        return {
            "id": evaluation.genome.id,
            "objectives": {name: values[name] for name in self.objectives},
            "costs": evaluation.costs,
            "rung": f"trained:{evaluation.trained}" if evaluation.trained else rung,
            "origin": evaluation.origin,
            "genome": evaluation.genome.levels.tolist(),
        }

    def front_json(self) -> dict[str, Any]:
        """Return the content of `front.json`, which `front --json` prints."""
        dense = self.dense
        objectives = {name: self.values(dense)[name] for name in self.objectives} if dense else None
        return {
            "run": str(self.run.path),
            "objectives": self.objectives,
            "dense": {"objectives": objectives, "costs": self.space.dense_costs},
            "limits": [b.text for b in self.space.bounds],
            "hypervolume": self.hypervolume(),
            "tokens": self.tokens,
            "learning_tokens": self.learning_tokens,
            "supernet_tokens": self.supernet_tokens,
            "evaluations": len(self.evaluations),
            "candidates": [self.candidate_json(e) for e in self.front],
            "baselines": [self.candidate_json(e) for e in self.baselines],
            "picks": {name: e.genome.id for name, e in self.picks().items()},
        }
