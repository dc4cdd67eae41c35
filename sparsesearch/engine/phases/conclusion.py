"""The end of a search: final measurements, reference point, front and test data."""

from __future__ import annotations

import json

from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.rounds import Rounds
from sparsesearch.engine.phases.trials import kept_weights
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import problem
from sparsesearch.files import write_text
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Proposal
from sparsesearch.space import Genome


def measure_finalists(job: Job, rounds: Rounds) -> None:
    """Measure dense, the uniform baselines and the searcher's finalists on all selection data."""
    searcher = rounds.searcher
    proposals: dict[Genome, Proposal] = {p.genome: p for p in searcher.starting_proposals(0, 0)}
    for evaluation in searcher.best.values():
        genome, dense = evaluation.genome, job.space.dense
        if evaluation.role == "baseline" and genome != dense:
            proposals.setdefault(genome, Proposal(genome, 0, 0, evaluation.origin, role="baseline"))
    for genome in searcher.finalists(job.launch.config.search.final):
        proposals.setdefault(genome, Proposal(genome, 0, 0, "final", role="final"))
    job.reporter.phase("final measurement", len(proposals))
    rounds.measurer.evaluate(list(proposals.values()))
    job.reporter.end()
    _write_worker_usage(job)


def _write_worker_usage(job: Job) -> None:
    """Write the memory of workers, and report it with the share of blocks that kept hidden states saved."""
    workers = job.executor.each(Worker.usage)
    write_text(job.run.workers, json.dumps(workers))
    text = f"Workers held up to {max((w['peak_bytes'] for w in workers), default=0) / 1e6:,.0f} MB each"
    if requested_blocks := sum(w.get("blocks_asked", 0) for w in workers):
        kept_bytes, run_blocks = (sum(w.get(name, 0) for w in workers) for name in ("prefix_bytes", "blocks_ran"))
        memory = f"{kept_bytes / 1e6:,.0f} MB in all, at most executor.prefix_bytes each"
        text += f"; kept hidden states ({memory}) saved {1 - run_blocks / requested_blocks:.0%} of all block runs"
    job.reporter.message(f"{text}.")


def write_search_totals(job: Job, rounds: Rounds) -> None:
    """Write the number of evaluations to `run.json`, and once the hypervolume's reference point, which then stays."""
    results = RunResults(job.run.path)
    added = {
        "reference": results.reference(),
        "search_evaluations": rounds.budget.used_evals,
        "lines": job.run.line_counts(),
    }
    job.run.write(job.run.info, results.info | added)


def conclude(job: Job, rounds: Rounds) -> RunResults:
    """Write the reference point, the front and the values on test data; returns the results.

    Raises InfeasibleError SS406 if no candidate could be evaluated.
    """
    results = RunResults(job.run.path)
    if not results.final:
        failed = next((f"; the first failed with: {e.error}" for e in results.evaluations if e.error), "")
        raise problem("SS406", f"no candidate could be evaluated{failed}.", fix=f"See {job.run.archive}.")
    write_search_totals(job, rounds)
    results = RunResults(job.run.path)
    if job.launch.config.data.test is not None:
        _test(job, results)
    job.run.write_front(results.front_json())
    baselines = {e.genome for e in (results.dense, *results.baselines) if e is not None}
    if results.front and not rounds.searcher.ends_by_itself and all(e.genome in baselines for e in results.front):
        spent = f"{len(results.evaluations)} evaluations found no better candidate"
        job.reporter.message(
            f"SS410 the front is uniform pruning alone: {spent}. Give the search more evaluations or "
            "tokens (--evals, --tokens)."
        )
    return results


def _test(job: Job, results: RunResults) -> None:
    """Measure dense, the picks and the compared uniform baselines on test data; values in `test.json` are kept."""
    run = job.run
    values: dict[str, float] = run.read(run.test) if run.test.exists() else {}
    candidates = [results.dense, *results.picks().values(), *results.compared_baselines()]
    missing = {name_in_tests(e): e for e in candidates if e is not None and name_in_tests(e) not in values}
    job.reporter.phase(f"test {results.test_metric}", len(missing))
    calls = [(e.genome.data, kept_weights(run, e)) for e in missing.values()]
    measured = job.executor.map(Worker.test, calls)
    for done, (name, value) in enumerate(zip(missing, measured, strict=True), 1):
        if value is not None:
            values[name] = value
        job.reporter.step(done)
    job.reporter.end()
    run.write(run.test, values)
