"""The rounds of a search: ask, admit, measure, tell."""

from __future__ import annotations

import time
from collections.abc import Sequence

from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.budget import Budget
from sparsesearch.engine.phases.learning import NOTHING, Learned
from sparsesearch.engine.phases.measuring import Call, Measurer, PlannedEvaluation
from sparsesearch.engine.phases.proxy_screen import make_screen, screen_samples
from sparsesearch.engine.workers.call_results import Failed
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.logs import logger
from sparsesearch.searchers import Evaluation, Proposal, Searcher
from sparsesearch.searchers.base import Seeds
from sparsesearch.searchers.records import Role

# Generations without a new proposal after which a search ends.
IDLE_GENERATIONS = 20
# Children in a row that the archive has, after which no call is made.
MAX_ARCHIVED_CHILDREN = 20
# Roles of evaluations that the searcher did not propose.
ROLES_OUTSIDE_SEARCH: tuple[Role, ...] = ("baseline", "final")


class Rounds:
    """The searcher of a run with its measurer and budget; evaluations in the archive are replayed."""

    def __init__(self, job: Job, seeds: Seeds, learned: Learned = NOTHING) -> None:
        """
        Args:
            seeds: further genomes for generation 0, by name.
            learned: genomes that were learned before; their tokens count against the budget.
        """
        self.job, self.config = job, job.launch.config.search
        self.searcher: Searcher = job.launch.searcher(job.space, {**seeds, **learned.genomes})
        self.measurer = Measurer(job)
        self.archive = self.measurer.archive
        self.budget = Budget(self.config, self.searcher, job.ledger, self.archive, learned.tokens)
        self._logged = max((line["generation"] for line in job.run.lines(job.run.generations)), default=0)

    def run(self) -> None:
        """Search until the searcher or the budget ends it."""
        self.searcher.asynchronous = self.config.asynchronous
        if not self._prepare_screen():
            return
        self.job.reporter.phase(f"search ({self.config.searcher})", self.budget.evals)
        if self._search_in_generations():
            self._search_asynchronously()
        self.job.reporter.end()

    def _prepare_screen(self) -> bool:
        """Validate the screening proxy against measurements, and use it if it agrees.

        Returns False if the budget does not cover these measurements: the search cannot begin.
        """
        options = self.config.screen
        if options is None:
            return True
        samples = screen_samples(self.job, options)
        admitted = self._admit(samples)
        self.job.reporter.phase(f"proxy {options.proxy}", len(admitted))
        evaluations = self.measurer.measure(admitted)
        self.job.reporter.end()
        if len(admitted) < len(samples):
            return False
        self.searcher.screen = make_screen(self.job, options, evaluations)
        return True

    def _search_in_generations(self) -> bool:
        """Measure whole generations while the searcher waits for them; returns whether it continues without waiting."""
        idle = 0
        while self.searcher.waits:
            started, measured = time.monotonic(), len(self.archive.entries)
            proposals = self.searcher.ask()
            seconds = time.monotonic() - started
            before = self.budget.used_evals, self.budget.used_tokens
            admitted = self._admit(proposals)
            # A run that is resumed with a larger budget continues with them.
            self.searcher.put_back(proposals[len(admitted) :])
            evaluations = self.measurer.measure(admitted, before[0])
            if len(self.archive.entries) > measured:  # not a replay
                self.job.ledger.add("searcher", seconds, 0)
            self.searcher.tell(evaluations)
            logger.info("generation %d: %d evaluations", self.searcher.generation_count, len(evaluations))
            self._log_generation()
            idle = idle + 1 if (self.budget.used_evals, self.budget.used_tokens) == before else 0
            if not proposals or len(admitted) < len(proposals) or idle == IDLE_GENERATIONS:
                return False
        return True

    def _search_asynchronously(self) -> None:
        """Tell each evaluation as soon as it ends; a free worker gets the next child at once."""
        self._adopt_evaluations()
        started = time.monotonic()
        stream = self.job.executor.stream(Worker.evaluate, self._next_unmeasured_child, on_death=Failed)
        for measurement, result in stream:
            evaluation = self.measurer.record(measurement, [result], started, self.budget.used_evals)
            started = time.monotonic()  # workers overlap: the ledger counts the time between two results
            self.measurer.remember(evaluation)
            self.searcher.tell([self.measurer.as_proposed(evaluation, measurement.proposal)])
            self._log_generation()
        self.job.ledger.flush("evaluation")

    def _adopt_evaluations(self) -> None:
        """Give the searcher evaluations of earlier asynchronous sessions, which no generation reproduces."""
        evaluations: list[Evaluation] = []
        for request, evaluation in self.archive.entries.items():
            if request not in self.budget.charged and evaluation.role not in ROLES_OUTSIDE_SEARCH:
                evaluations.append(evaluation)
        for evaluation in evaluations:
            tokens = evaluation.measured_sequences * self.measurer.length
            self.budget.charge(evaluation.request, tokens)
            self.measurer.remember(evaluation)
        self.searcher.adopt(evaluations)

    def _next_unmeasured_child(self) -> tuple[PlannedEvaluation, Call] | None:
        """Return the next child that must be measured, with its call; None if none is ready or the budget is spent.

        The searcher receives the evaluations of children in the archive at once.
        """
        for _ in range(MAX_ARCHIVED_CHILDREN):
            admitted = self._admit(self.searcher.ask(1))
            if not admitted:
                return None
            measurement = admitted[0]
            request = measurement.request
            if request not in self.archive.entries:  # measured in one call
                return measurement, (request.genome.data, measurement.missing_rows.tolist(), 0)
            evaluation = self.archive.entries[request]
            self.searcher.tell([self.measurer.as_proposed(evaluation, measurement.proposal)])
        return None

    def _admit(self, proposals: Sequence[Proposal]) -> list[PlannedEvaluation]:
        return self.budget.admit(self.measurer.plan(proposals))

    def _log_generation(self) -> None:
        """Write the searcher's report, one line for each generation."""
        index, report = self.searcher.generation_count, self.searcher.report()
        if report and index > self._logged:
            self._logged = index
            line = {"generation": index, "evaluations": self.budget.used_evals, "tokens": self.budget.used_tokens}
            self.job.run.append(self.job.run.generations, line | {k: round(v, 4) for k, v in report.items()})
