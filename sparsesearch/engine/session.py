"""One session of a search: ask, evaluate, tell, record, and measure what was found."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from typing import Any

from sparsesearch.engine.budget import Budget
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.learning import NOTHING, Learned
from sparsesearch.engine.measuring import Measurer
from sparsesearch.engine.proxy_screen import samples_for, screen_of
from sparsesearch.engine.scoring import score_tables
from sparsesearch.engine.trials import kept_weights
from sparsesearch.engine.workers.executor import Executor, alive
from sparsesearch.errors import problem
from sparsesearch.files import write_text
from sparsesearch.proxies import proxies_named
from sparsesearch.proxies.score_table import ScoreTable
from sparsesearch.runs.archive import key_of
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.searchers.base import Seeds
from sparsesearch.searchers.registry import create
from sparsesearch.space import Space

# A search that proposes nothing new for this many generations has seen its space.
IDLE_GENERATIONS = 20
# Origins of what is measured when a search has ended.
MEASURED_LAST = ("final", "dense", "uniform")


class SearchSession:
    """The search of one run, from where its archive stands to the front."""

    def __init__(
        self,
        launch: Launch,
        run: RunDirectory,
        space: Space,
        executor: Executor,
        reporter: Reporter,
        ledger: Ledger,
        seeds: Seeds,
        learned: Learned = NOTHING,
    ) -> None:
        """
        Args:
            seeds, learned: further genomes for generation 0; what learning took counts against the budget.
        """
        self.launch, self.run, self.space = launch, run, space
        self.executor, self.reporter, self.ledger = executor, reporter, ledger
        self.config = launch.config
        self.measurer = Measurer(launch, run, space, executor, reporter, ledger)
        self.archive = self.measurer.archive
        search = self.config.search
        self.searcher: Searcher = create(
            search.searcher, space, self.config.objectives, search.seed, search.options, {**seeds, **learned.genomes}
        )
        self.budget = Budget(search, self.searcher, ledger, self.archive, learned.tokens)
        self._logged = max((line["generation"] for line in run.lines(run.generations)), default=0)

    def search(self) -> None:
        """Ask, evaluate, tell, record, until the searcher or the budget ends it."""
        self.searcher.asynchronous = self.config.search.asynchronous
        if not self._looked():
            return
        self.reporter.phase(f"search ({self.config.search.searcher})", self.budget.evals)
        if self._search_in_generations():
            self._search_steadily()
        self.reporter.end()

    def _looked(self) -> bool:
        """Let a proxy choose among children, after a look at whether it may, which counts against the budget.

        False where the budget ends with the look: then nothing is decided.
        """
        wanted, space = self.config.search.screen, self.space
        if wanted is None:
            return True
        samples = samples_for(space, self.config.objectives[1], wanted, self.config.search.seed)
        proposals = self._admitted(samples)
        self.reporter.phase(f"proxy {wanted.proxy}", len(proposals))
        measured = self.measurer.evaluate(proposals)
        self.reporter.end()
        if len(proposals) < len(samples):
            return False

        def tabulate() -> ScoreTable:
            proxies = proxies_named([wanted.proxy])
            setup = self.launch.setup(self.run, self.run.path.parent / ".cache")
            tables = score_tables(self.launch, setup, space, proxies, self.executor, self.reporter, self.ledger)
            if wanted.proxy not in tables:
                raise problem("SS407", f"proxy {wanted.proxy} failed.", fix="Leave search.screen out, or mend it.")
            return tables[wanted.proxy]

        self.searcher.screen = screen_of(self.run, space, wanted, measured, tabulate, self.reporter)
        return True

    def _search_in_generations(self) -> bool:
        """Whole generations, for as long as the searcher waits for them; whether the search goes on without."""
        idle = 0
        while self.searcher.waits:
            started, measured = time.monotonic(), len(self.archive.entries)
            proposals = self.searcher.ask(1_000_000)
            thought = time.monotonic() - started
            before = self.budget.used_evals, self.budget.used_tokens
            affordable = self._admitted(proposals)
            # A larger budget can go on from here.
            self.searcher.put_back(proposals[len(affordable) :])
            evaluations = self.measurer.evaluate(affordable, before[0])
            if len(self.archive.entries) > measured:  # not a replay
                self.ledger.add("searcher", thought, 0)
            self.searcher.tell(evaluations)
            self._log_generation()
            idle = idle + 1 if (self.budget.used_evals, self.budget.used_tokens) == before else 0
            if not proposals or len(affordable) < len(proposals) or idle == IDLE_GENERATIONS:
                return False
        return True

    def _search_steadily(self) -> None:
        """No generations: whatever ends is told at once, and a worker that is free gets the next child."""
        self._adopt_the_rest()
        started = time.monotonic()
        for (key, proposal), result in self.executor.stream("evaluate", self._next_call):
            evaluation = self.measurer.record(key, proposal, [result], started, self.budget.used_evals)
            started = time.monotonic()
            self.measurer.learn(evaluation)
            self.searcher.tell([self.measurer.as_asked(evaluation, proposal)])
            self._log_generation()
        self.ledger.flush("evaluation")

    def _adopt_the_rest(self) -> None:
        """What an earlier session measured without generations."""
        made = [e for k, e in self.archive.entries.items() if k not in self.budget.charged]
        rest = [e for e in made if not e.origin.startswith(MEASURED_LAST)]
        for evaluation in rest:
            self.budget.charge(key_of(evaluation), (evaluation.sequences - evaluation.known) * self.measurer.length)
            self.measurer.learn(evaluation)
        self.searcher.adopt(rest)

    def _next_call(self) -> tuple[Any, tuple[Any, ...]] | None:
        """The next child to measure; None where none is ready or the budget is spent."""
        for _ in range(IDLE_GENERATIONS):
            proposals = self.searcher.ask(1)
            if not self._admitted(proposals):
                return None
            key = self.measurer.key(proposals[0])
            if key not in self.archive.entries:
                return (key, proposals[0]), (key[0].data, self.measurer.unknown(key).tolist())  # in one call
            self.searcher.tell([self.measurer.as_asked(self.archive.entries[key], proposals[0])])
        return None

    def _admitted(self, proposals: Sequence[Proposal]) -> list[Proposal]:
        """Those that the budget covers."""
        keys = [self.measurer.key(p) for p in proposals]
        return self.budget.admit([(p, k, self.measurer.cost(k)) for p, k in zip(proposals, keys, strict=True)])

    def _log_generation(self) -> None:
        """What the searcher says of itself, a line for each generation."""
        index, report = self.searcher.index, self.searcher.report()
        if report and index > self._logged:
            self._logged = index
            line = {"generation": index, "evaluations": self.budget.used_evals, "tokens": self.budget.used_tokens}
            self.run.append(self.run.generations, line | {k: round(v, 4) for k, v in report.items()})

    def measure_finalists(self) -> None:
        """Measure dense, the uniform baselines and the searcher's best on all selection data."""
        wanted = {genome: name for name, genome in self.searcher.starting(0).items()}
        for evaluation in self.searcher.best.values():
            if evaluation.origin.startswith("uniform"):
                wanted.setdefault(evaluation.genome, evaluation.origin)
        for genome in self.searcher.finalists(self.config.search.final):
            wanted.setdefault(genome, "final")
        proposals = [Proposal(genome, 0, 0, origin) for genome, origin in wanted.items()]
        self.reporter.phase("final measurement", len(proposals))
        self.measurer.evaluate(proposals)
        self.reporter.end()
        self._note_workers()

    def _note_workers(self) -> None:
        """What workers held in memory, and how many blocks their kept hidden states saved."""
        workers = self.executor.each("usage")
        write_text(self.run.workers, json.dumps(workers))
        text = f"Workers held up to {max((w['peak_bytes'] for w in workers), default=0) / 1e6:,.0f} MB each"
        if asked := sum(w.get("blocks_asked", 0) for w in workers):
            kept, ran = (sum(w.get(name, 0) for w in workers) for name in ("prefix_bytes", "blocks_ran"))
            memory = f"{kept / 1e6:,.0f} MB in all, at most executor.prefix_bytes each"
            text += f"; kept hidden states ({memory}) spared them {1 - ran / asked:.0%} of all blocks"
        self.reporter.message(f"{text}.")

    def note_reference(self) -> None:
        """Write the hypervolume's reference point, kept once it is there, and what the search took."""
        results = RunResults(self.run.path)
        known = {
            "reference": results.reference(),
            "search_evaluations": self.budget.used_evals,
            "lines": self.run.line_counts(),
        }
        self.run.write(self.run.info, results.info | known)

    def conclude(self) -> RunResults:
        """Write the reference point (kept once it is there), the front and test perplexities."""
        results = RunResults(self.run.path)
        if not results.final:
            failed = next((f"; the first failed with: {e.error}" for e in results.evaluations if e.error), "")
            raise problem("SS406", f"no candidate could be evaluated{failed}.", fix=f"See {self.run.archive}.")
        self.note_reference()
        results = RunResults(self.run.path)
        if self.config.data.test is not None:
            self._test(results)
        self.run.write_front(results.front_json())
        known = {e.genome for e in (results.dense, *results.baselines) if e is not None}
        if results.front and not self.searcher.ends_by_itself and all(e.genome in known for e in results.front):
            spent = f"{len(results.evaluations)} evaluations found nothing better"
            self.reporter.message(
                f"SS410 the front is uniform pruning alone: {spent}. Give the search more --evals or --tokens."
            )
        return results

    def _test(self, results: RunResults) -> None:
        """Perplexity or accuracy on test data, of dense, the picks and uniform baselines beside them; once each."""
        known: dict[str, float] = self.run.read(self.run.test) if self.run.test.exists() else {}
        wanted = [results.dense, *results.picks().values(), *results.compared_baselines()]
        named = {name_in_tests(e): e for e in wanted if e is not None and name_in_tests(e) not in known}
        self.reporter.phase(f"test {results.test_metric}", len(named))
        values = self.executor.map("test", [(e.genome.data, kept_weights(self.run, e)) for e in named.values()])
        for done, (name, value) in enumerate(zip(named, alive(values), strict=True), 1):
            if value is not None:
                known[name] = value
            self.reporter.step(done)
        self.reporter.end()
        self.run.write(self.run.test, known)
