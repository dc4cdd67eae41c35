"""The rungs of training above a search: the best candidates of all sizes are trained shortly, the best of them longer.

Promotion is successive halving over all objectives: whole non-dominated fronts go on, and of the one that does not fit
the points that are spread best. Uniform candidates climb beside the others, on the same data in the same order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sparsesearch import pareto
from sparsesearch.config import Rung
from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.trials import train
from sparsesearch.engine.workers.call_results import Trained
from sparsesearch.engine.workers.trial import Trial
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation

# Training that makes the quality worse by more than this share is not used.
MAX_RELATIVE_LOSS = 0.05


class Ladder:
    """Trains the best candidates of a search, rung by rung."""

    def __init__(self, job: Job) -> None:
        self.job = job
        # What was trained before an interruption must not change who is trained.
        self.results = RunResults(job.run.path, rungs=False)
        self.archive = Archive(job.run.trained, writable=True)
        self.rungs = job.launch.config.search.rungs

    def climb(self) -> None:
        """Train on all rungs, from the candidates that were measured last; finished trainings are read."""
        results = self.results
        dense, rivals = results.space.dense, {e.genome for e in results.compared_baselines()}
        standing = [e for e in results.final if e.genome != dense and results.space.feasible(e.genome)]
        self.job.executor.release()
        # ASHA needs concurrent trials; the local executor finishes one rung before the next.
        search, kind = self.job.launch.config.search, self.job.launch.config.executor.kind
        overlapping = search.asynchronous and kind == "ray"
        for number, rung in enumerate(self.rungs):
            searched = [e for e in standing if e.genome not in rivals]
            chosen = pareto.best_fronts([results.point(e) for e in searched], rung.candidates)
            going = [searched[i] for i in chosen] + [e for e in standing if e.genome in rivals]
            further = self.rungs[number:] if overlapping else [rung]
            standing = self._train(going, further)
            if len(further) > 1:
                return

    def _train(self, going: Sequence[Evaluation], rungs: Sequence[Rung]) -> list[Evaluation]:
        """Train candidates to a rung, or to several at once; evaluations of those that arrived at the last."""
        tokens = tuple(rung.tokens for rung in rungs)
        whole = self.rungs[-1].tokens
        directory = self.job.run.trials
        trials = [Trial(e.genome, tokens, whole, directory / e.genome.id, self._expected(e)) for e in going]
        self.job.reporter.phase(f"training {len(trials)}, tokens", len(trials) * tokens[-1])
        share = rungs[1].candidates / rungs[0].candidates if len(rungs) > 1 else 1
        keep = share if share < 1 else None
        train(self.job, trials, f"training {tokens[-1]}", keep)
        return [e for at in tokens for e in self._recorded(going, trials, at)]

    def _expected(self, evaluation: Evaluation) -> float:
        """The quality that candidates of this size have before training, by the front so far."""
        front = self.results.front or [evaluation]
        cost = self.results.objectives[1]
        sizes, qualities = np.array(sorted((e.costs[cost], e.quality) for e in front)).T
        if qualities.min() <= 0:
            return float(np.interp(evaluation.costs[cost], sizes, qualities))
        return float(np.exp(np.interp(evaluation.costs[cost], sizes, np.log(qualities))))

    def _recorded(self, going: Sequence[Evaluation], trials: Sequence[Trial], tokens: int) -> list[Evaluation]:
        """What a rung ended with, in the archive in the order of the candidates, whoever was first."""
        found = []
        for evaluation, trial in zip(going, trials, strict=True):
            result = trial.result(tokens)
            if not isinstance(result, Trained):
                continue
            losses = np.array(result.losses)
            quality = quality_of(losses, self.results.quality)
            if quality - evaluation.quality > MAX_RELATIVE_LOSS * abs(evaluation.quality):
                change = f"training led from {evaluation.quality:.4g} to {quality:.4g}; it keeps its rung"
                self.job.reporter.message(
                    f"SS408 candidate {evaluation.genome.id}: {change}. Lower training.learning_rate."
                )
                continue
            trained = Evaluation(
                evaluation.genome,
                len(losses),
                0,
                evaluation.origin,
                "ok" if math.isfinite(quality) else "invalid",
                quality,
                evaluation.costs,
                tuple(result.losses),
                trained=tokens,
                role=evaluation.role,
            )
            if trained.request not in self.archive.entries:
                self.archive.append(trained)
            if trained.status == "ok":
                found.append(trained)
        return found
