"""Comparison of searchers on one space and level store with equal token budgets, at several checkpoints.

Every searcher and seed is a separate run, so an interrupted comparison continues where it stopped. The genomes that
searches considered best at checkpoints are measured again on all selection data, outside their budgets, since the best
of many measurements on few samples is overestimated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import SearchConfig, load_config
from sparsesearch.engine import controller
from sparsesearch.engine.job import Job, open_job
from sparsesearch.engine.launch.access import TRUSTED, check_same_code
from sparsesearch.engine.launch.launch import Launch
from sparsesearch.engine.phases.learning import learn
from sparsesearch.engine.phases.measuring import Measurer
from sparsesearch.engine.phases.rounds import ROLES_OUTSIDE_SEARCH, Rounds
from sparsesearch.engine.phases.seeds import seed_genomes
from sparsesearch.engine.workers.executor import create_executor
from sparsesearch.engine.workers.replay import ReplayExecutor
from sparsesearch.engine.workers.setup import worker_setup
from sparsesearch.errors import problem
from sparsesearch.runs.archive import Archive
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.ledger import Ledger
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.space import Genome, Limit, Space

# Phases of the ledger whose time counts as the search's.
SEARCH_PHASES = ("evaluation", "searcher", "learning")
# Token counts at which searches are compared, as shares of the budget.
CHECKPOINT_SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Contender:
    """One searcher with one seed.

    Attributes:
        name: the searcher's name, or the label in `LABEL=SEARCHER`.
        path: directory of its run.
        searcher: the searcher's name.
    """

    name: str
    seed: int
    path: Path
    searcher: str = ""


def contenders(path: Path, searchers: Sequence[str], seeds: Sequence[int]) -> list[Contender]:
    """Return all searchers, given as `NAME` or `LABEL=NAME`, with all seeds; raises InputError SS102 for duplicates."""
    named = {label: name or label for label, _, name in (text.partition("=") for text in searchers)}
    for names, kind in (([text.partition("=")[0] for text in searchers], "searcher"), (seeds, "seed")):
        twice = next((name for name in names if list(names).count(name) > 1), None)
        if twice is not None:
            raise problem(
                "SS102", f"compare: {kind} {twice!r} is named twice.", fix="Name each once, or as LABEL=NAME."
            )
    return [
        Contender(label, seed, path / f"{label.replace(':', '-')}-s{seed}", name)
        for label, name in named.items()
        for seed in seeds
    ]


def search_of(recipe: SearchConfig, contender: Contender, tokens: int, options: dict[str, Any]) -> SearchConfig:
    """Return the search of one contender.

    Args:
        recipe: the recipe's search; its options are used if it names the same searcher.
        tokens: token budget.
        options: further options, which replace the recipe's.
    """
    recipe_options = recipe.options if recipe.searcher == contender.searcher else {}
    changes = {
        "searcher": contender.searcher,
        "seed": contender.seed,
        "tokens": tokens,
        "evals": None,
        "hours": None,
        "options": recipe_options | options,
        "final": 1,  # genomes of checkpoints are measured by `judge`
    }
    return recipe.model_copy(update=changes)


def check_runs(launches: dict[Contender, Launch], path: Path) -> None:
    """Raise InputError SS602 if an existing run belongs to another comparison.

    Runs of other searchers must be of the same model, data and space, since their genomes are measured together.
    """
    fingerprints = {contender.path: launch.fingerprint for contender, launch in launches.items()}
    common = _without_search(next(iter(fingerprints.values())))
    for run in (info.parent for info in path.glob("*/run.json")):
        fingerprint = RunResults(run).info["fingerprint"]
        if fingerprint != fingerprints.get(run, fingerprint) or _without_search(fingerprint) != common:
            raise problem("SS602", f"{run} is of another comparison.", fix="Use another name (--name).")


def _without_search(fingerprint: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fingerprint.items() if not name.startswith(("search", "training"))}


def run_all(launches: dict[Contender, Launch], reporter: Reporter) -> dict[Contender, RunResults]:
    """Start, resume or read every contender's run; returns their results."""
    results = {}
    for number, (contender, launch) in enumerate(launches.items(), 1):
        reporter.message(f"{number} of {len(launches)}: {contender.name}, seed {contender.seed}")
        tokens = launch.config.search.tokens
        if not _exists(contender):
            results[contender] = controller.start(launch, contender.path, reporter)
        elif _has_ended(contender, tokens):
            results[contender] = RunResults(contender.path)
        else:
            check_same_code(contender.path, launch.config)
            results[contender] = controller.resume(contender.path, {"search.tokens": tokens}, reporter, TRUSTED)
    return results


def _exists(contender: Contender) -> bool:
    return (contender.path / "run.yaml").exists()


def _has_ended(contender: Contender, tokens: int | None) -> bool:
    """Return whether the run has ended with exactly this budget."""
    run = RunDirectory.open(contender.path)
    return run.front.exists() and load_config(run.config).search.tokens == tokens


@dataclass(frozen=True)
class Checkpoint:
    """The genomes that a search considers best after some tokens.

    Attributes:
        tokens, seconds: spent on evaluations until then.
        best: the genome for each size; None if it has measured none that small.
    """

    tokens: int
    seconds: float
    best: tuple[Genome | None, ...]


def checkpoints_of(launch: Launch, results: RunResults, sizes: Sequence[Space], budget: int) -> list[Checkpoint]:
    """Replay a search from its archive up to every checkpoint and return its best genomes there.

    Args:
        sizes: spaces with the limit of each size.
        budget: token budget of the search.
    """
    seconds, checkpoints = _cumulative_seconds(results), []
    token_counts = [int(share * budget) for share in CHECKPOINT_SHARES]
    for tokens, searcher in zip(token_counts, _replayed_searchers(launch, results, token_counts), strict=True):
        best = tuple(searcher.best_within(space) for space in sizes)
        checkpoints.append(Checkpoint(tokens, float(np.interp(tokens, *seconds)), best))
    return checkpoints


def _replayed_searchers(launch: Launch, results: RunResults, token_counts: Sequence[int]) -> Iterator[Searcher]:
    """Yield the searcher of a run as it was when it had spent each of some rising numbers of tokens."""
    search = None
    for tokens in token_counts:
        if search is None or launch.config.search.asynchronous:
            search = _replay(launch, results)
        if launch.config.search.asynchronous:  # it would replay the whole archive
            _drop_later_entries(search.archive, tokens // search.measurer.length)
        search.budget.tokens = tokens
        search.run()
        yield search.searcher


def _replay(launch: Launch, results: RunResults) -> Rounds:
    """Return the search of a run from its start; all its measurements are in the archive."""
    run = results.run
    setup = worker_setup(launch, run)
    job = Job(launch, run, results.space, ReplayExecutor(), Reporter(quiet=True), Ledger(run), setup)
    return Rounds(job, seed_genomes(job), learn(job))


def _drop_later_entries(archive: Archive, sequences: int) -> None:
    """Drop from memory the evaluations that a search made after this many sequences."""
    measured = {r: e.measured_sequences for r, e in archive.entries.items() if e.role not in ROLES_OUTSIDE_SEARCH}
    for request, spent in zip(measured, accumulate(measured.values()), strict=True):
        if spent > sequences:
            del archive.entries[request]


def _cumulative_seconds(results: RunResults) -> tuple[list[float], list[float]]:
    """Return cumulative tokens and seconds of the search after each entry of the ledger, from 0."""
    entries = [entry for entry in results.lines(results.run.ledger) if entry["phase"] in SEARCH_PHASES]
    tokens, seconds = (list(accumulate(float(e[key]) for e in entries)) for key in ("tokens", "seconds"))
    return [0.0, *tokens], [0.0, *seconds]


def judge(launch: Launch, results: RunResults, genomes: set[Genome], path: Path, reporter: Reporter) -> Archive:
    """Measure genomes on all selection data; returns the archive in `path`, whose evaluations are not repeated.

    Args:
        launch, results: one of the runs, whose level store and teacher are used.
    """
    path.mkdir(exist_ok=True)
    run = RunDirectory(path)
    archive = Archive(run.archive)
    missing = sorted(genomes - {genome for genome, *_ in archive.entries}, key=lambda genome: genome.id)
    if not missing:
        return archive
    with open_job(launch, run, reporter, resume_command="the same compare command", keep_progress=False) as job:
        setup = worker_setup(launch, results.run, job.setup.training)
        executor = create_executor(setup)
        try:
            measurer = Measurer(replace(job, space=results.space, setup=setup, executor=executor))
            reporter.phase("judging", len(missing))
            measurer.evaluate([Proposal(genome, 0, 0, "judged", role="final") for genome in missing])
            reporter.end()
        finally:
            executor.close()
    return measurer.archive


def sized(space: Space, cost: str, shares: Sequence[str]) -> dict[str, Space]:
    """Return the space with the limit of each size, by the limit's text.

    Args:
        shares: limits of the cost as `80%`; if empty, the space's own limits, or else 80, 60 and 40 %.
    """
    if not shares:
        if space.bounds:
            return {", ".join(bound.text for bound in space.bounds): space}
        shares = ("80%", "60%", "40%")
    return {f"{cost}<={s}": space.with_limits([*space.limits, Limit.parse(f"{cost}<={s}")]) for s in shares}
