"""Searchers on one space, one level store and equal token budgets, and what each had found after how many tokens.

Every searcher and seed is a run of its own, so an interrupted comparison goes on where it stopped. What searches
believed at checkpoints is measured again on all selection data, outside their budgets: few samples flatter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import SearchConfig, load_config
from sparsesearch.engine import controller
from sparsesearch.engine.launch.access import TRUSTED, check_same_code
from sparsesearch.engine.launch.prepare import Launch
from sparsesearch.engine.learning import learn
from sparsesearch.engine.measuring import Measurer
from sparsesearch.engine.seeds import seed_genomes
from sparsesearch.engine.session import MEASURED_LAST, SearchSession
from sparsesearch.engine.workers import executor as executors
from sparsesearch.engine.workers.executor import Source
from sparsesearch.errors import problem
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.space import Genome, Limit, Space

# Phases of the ledger whose time is the search's own.
SEARCHING = ("evaluation", "searcher", "learning")
# Token counts at which searches are looked at, as shares of the budget.
CHECKPOINTS = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Contender:
    """One searcher with one seed.

    Attributes:
        name: what it is called: the searcher's own name, or the label in `LABEL=SEARCHER`.
        path: of its run.
    """

    name: str
    seed: int
    path: Path
    searcher: str = ""


def contenders(path: Path, searchers: Sequence[str], seeds: Sequence[int]) -> list[Contender]:
    """All searchers, as `NAME` or `LABEL=NAME`, with all seeds; raises InputError SS102 where one is named twice."""
    named = {label: name or label for label, _, name in (text.partition("=") for text in searchers)}
    for names, what in (([text.partition("=")[0] for text in searchers], "searcher"), (seeds, "seed")):
        twice = next((name for name in names if list(names).count(name) > 1), None)
        if twice is not None:
            raise problem(
                "SS102", f"compare: {what} {twice!r} is named twice.", fix="Name each once, or as LABEL=NAME."
            )
    return [
        Contender(label, seed, path / f"{label.replace(':', '-')}-s{seed}", name)
        for label, name in named.items()
        for seed in seeds
    ]


def search_of(recipe: SearchConfig, contender: Contender, tokens: int, options: dict[str, Any]) -> SearchConfig:
    """The search of one contender: the recipe's own options where it names that searcher, and further ones."""
    own = recipe.options if recipe.searcher == contender.searcher else {}
    changes = {
        "searcher": contender.searcher,
        "seed": contender.seed,
        "tokens": tokens,
        "evals": None,
        "hours": None,
        "options": own | options,
        "final": 1,  # what matters is judged
    }
    return recipe.model_copy(update=changes)


def check_runs(launches: dict[Contender, Launch], path: Path) -> None:
    """Raise InputError SS602 where a run that is there already is not the one wanted.

    Those of other searchers must be of the same model, data and space: what they chose is judged together.
    """
    wanted = {contender.path: launch.fingerprint for contender, launch in launches.items()}
    common = _without_search(next(iter(wanted.values())))
    for run in (info.parent for info in path.glob("*/run.json")):
        known = RunResults(run).info["fingerprint"]
        if known != wanted.get(run, known) or _without_search(known) != common:
            raise problem("SS602", f"{run} is of another comparison.", fix="Use another --name.")


def _without_search(fingerprint: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fingerprint.items() if not name.startswith(("search", "training"))}


def run_all(launches: dict[Contender, Launch], reporter: Reporter) -> dict[Contender, RunResults]:
    """Run, go on with, or read every contender's run."""
    found = {}
    for number, (contender, launch) in enumerate(launches.items(), 1):
        reporter.message(f"{number} of {len(launches)}: {contender.name}, seed {contender.seed}")
        tokens = launch.config.search.tokens
        if not _exists(contender):
            found[contender] = controller.start(launch, contender.path, reporter)
        elif _has_ended(contender, tokens):
            found[contender] = RunResults(contender.path)
        else:
            check_same_code(contender.path, launch.config)
            found[contender] = controller.resume(contender.path, {"search.tokens": tokens}, reporter, TRUSTED)
    return found


def _exists(contender: Contender) -> bool:
    return (contender.path / "run.yaml").exists()


def _has_ended(contender: Contender, tokens: int | None) -> bool:
    """Whether the run spent this budget, no other one."""
    run = RunDirectory.open(contender.path)
    return run.front.exists() and load_config(run.config).search.tokens == tokens


@dataclass(frozen=True)
class Moment:
    """What a search believed best at some point.

    Attributes:
        tokens, seconds: spent on evaluations until then.
        best: for each size the genome, None where it had nothing that small.
    """

    tokens: int
    seconds: float
    best: tuple[Genome | None, ...]


def moments(launch: Launch, results: RunResults, sizes: Sequence[Space], budget: int) -> list[Moment]:
    """A search at every checkpoint: repeated from its archive up to there, and asked what it takes to be the best.

    Args:
        sizes: spaces with the limit of each size.
        budget: of tokens.
    """
    seconds, found = _seconds(results), []
    checkpoints = [int(share * budget) for share in CHECKPOINTS]
    for tokens, searcher in zip(checkpoints, _repeated(launch, results, checkpoints), strict=True):
        best = tuple(searcher.best_within(space) for space in sizes)
        found.append(Moment(tokens, float(np.interp(tokens, *seconds)), best))
    return found


class Archived:
    """An executor for searches that are repeated: whatever they ask for is in the archive."""

    def map(self, method: str, calls: Sequence[tuple[Any, ...]], lanes: int | None = None) -> Iterator[Any]:
        assert not calls, f"{method} has not been done"
        return iter(())

    def stream(self, method: str, source: Source, lanes: int | None = None) -> Iterator[tuple[Any, Any]]:
        return iter(())

    def each(self, method: str) -> list[Any]:
        return []

    def release(self) -> None: ...

    def close(self) -> None: ...


def _repeated(launch: Launch, results: RunResults, checkpoints: Sequence[int]) -> Iterator[Searcher]:
    """The searcher of a run as it was when it had spent each of some rising numbers of tokens."""
    session = None
    for tokens in checkpoints:
        if session is None or launch.config.search.asynchronous:
            session = _session(launch, results)
        if launch.config.search.asynchronous:  # there it takes in all that there is
            _forget(session.archive, tokens // session.measurer.length)
        session.budget.tokens = tokens
        session.search()
        yield session.searcher


def _session(launch: Launch, results: RunResults) -> SearchSession:
    """The session of a run, from its start."""
    run, reporter = results.run, Reporter(quiet=True)
    ledger, nobody = Ledger(run), Archived()
    seeds = seed_genomes(launch.config, results.space, run, nobody, reporter, ledger)
    learned = learn(launch, run, results.space, nobody, reporter, ledger)
    return SearchSession(launch, run, results.space, nobody, reporter, ledger, seeds, learned)


def _forget(archive: Archive, sequences: int) -> None:
    """Drop from memory what a search measured after this many sequences."""
    made = {k: e.sequences - e.known for k, e in archive.entries.items() if not e.origin.startswith(MEASURED_LAST)}
    for key, spent in zip(made, accumulate(made.values()), strict=True):
        if spent > sequences:
            del archive.entries[key]


def _seconds(results: RunResults) -> tuple[list[float], list[float]]:
    """Tokens and seconds of evaluations, both cumulative."""
    entries = [entry for entry in results.lines(results.run.ledger) if entry["phase"] in SEARCHING]
    tokens, seconds = (list(accumulate(float(e[key]) for e in entries)) for key in ("tokens", "seconds"))
    return [0.0, *tokens], [0.0, *seconds]


def judge(launch: Launch, results: RunResults, genomes: set[Genome], path: Path, reporter: Reporter) -> Archive:
    """Qualities of genomes on all selection data, kept in `path`; what is there is not measured again.

    Args:
        launch, results: of any of the runs, whose level store and teacher serve.
    """
    path.mkdir(exist_ok=True)
    judged = RunDirectory(path)
    archive = Archive(judged.archive)
    missing = sorted(genomes - {genome for genome, *_ in archive.entries}, key=lambda genome: genome.id)
    if not missing:
        return archive
    cluster = executors.Cluster(launch.config.executor)
    executor = executors.create(launch.setup(results.run, results.run.path.parent / ".cache"))
    try:
        measurer = Measurer(launch, judged, results.space, executor, reporter, Ledger(judged))
        reporter.phase("judging", len(missing))
        measurer.evaluate([Proposal(genome, 0, 0, "judged") for genome in missing])
        reporter.end()
    finally:
        executor.close()
        cluster.close()
    return measurer.archive


def sized(space: Space, cost: str, shares: Sequence[str]) -> dict[str, Space]:
    """The space with each of some limits; with its own, where it has any and none are given."""
    if not shares:
        if space.bounds:
            return {", ".join(bound.text for bound in space.bounds): space}
        shares = ("80%", "60%", "40%")
    return {f"{cost}<={s}": space.with_limits([*space.limits, Limit.parse(f"{cost}<={s}")]) for s in shares}
