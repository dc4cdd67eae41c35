"""A proxy that screens a search's children, if it ranks candidates as measurements do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparsesearch.config import ScreenConfig
from sparsesearch.engine.job import Job
from sparsesearch.engine.phases.scoring import score_tables
from sparsesearch.errors import problem
from sparsesearch.proxies import proxies_named
from sparsesearch.proxies.agreement import MIN_CANDIDATES, MIN_TAU, agreement
from sparsesearch.proxies.score_table import ScoreTable
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.searchers.screening import Screen
from sparsesearch.space.sampling import equal_cost_genomes, with_default_limit

# Draw of the sequences on which the sample candidates are measured.
DRAW = 0


def screen_samples(job: Job, options: ScreenConfig) -> list[Proposal]:
    """Return candidates of equal cost on which the proxy is compared with measurements."""
    config = job.launch.config
    space = with_default_limit(job.space, config.objectives[1])
    genomes = equal_cost_genomes(space, options.candidates, np.random.default_rng(config.search.seed))
    return [Proposal(genome, options.tokens, DRAW, "sample", role="probe") for genome in genomes]


def make_screen(job: Job, options: ScreenConfig, samples: Sequence[Evaluation]) -> Screen | None:
    """Return the screen, or None if the proxy disagrees with measurements; `screen.json` keeps scores and agreement.

    Args:
        samples: evaluations of `screen_samples`.

    Raises SparseSearchError SS407 if the proxy fails.
    """
    run, reporter, name = job.run, job.reporter, options.proxy
    if run.screen.exists():
        saved = run.read(run.screen)
        table = ScoreTable(job.space, saved["levels"], saved["dropped"])
    else:
        table = _table(job, name)
    valid = [e for e in samples if e.status == "ok"]
    scores = table.scores(np.array([e.genome.levels for e in valid]))
    result = agreement(name, scores, np.array([e.quality for e in valid]))
    summary = {"proxy": name, "tau": result.tau, "tau_range": result.tau_range, "candidates": len(valid)}
    run.write(run.screen, summary | table.to_json())
    if not result.tau >= MIN_TAU or len(valid) < MIN_CANDIDATES:
        reason = result.note or f"its Kendall tau is {result.tau:.2f} on {len(valid)} candidates"
        reason += f"; required are {MIN_TAU:g} on at least {MIN_CANDIDATES}"
        text = f"SS409 proxy {name} does not screen children: {reason}. Compare proxies: sparsesearch audit."
        reporter.message(text)
        return None
    reporter.message(f"Proxy {name} screens children (Kendall tau {result.tau:.2f} on {len(valid)} candidates).")
    return Screen(table.scores, options.children, options.unscreened)


def _table(job: Job, name: str) -> ScoreTable:
    tables = score_tables(job, proxies_named([name]))
    if name not in tables:
        raise problem("SS407", f"proxy {name} failed.", fix="Leave search.screen out, or repair the proxy.")
    return tables[name]
