"""Whether a proxy may choose among a search's children: only one that ranks candidates as measurements do."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparsesearch.config import ScreenConfig
from sparsesearch.proxies.agreement import MIN_CANDIDATES, MIN_TAU, agreement
from sparsesearch.proxies.score_table import ScoreTable
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter
from sparsesearch.searchers import Evaluation, Proposal
from sparsesearch.searchers.screening import Screen
from sparsesearch.space import Space
from sparsesearch.space.sampling import equal_cost_genomes, with_default_limit

# Origin of the candidates that a proxy is compared on.
SAMPLE = "sample"
# The draw of sequences that they are measured on.
DRAW = 0


def samples_for(space: Space, cost: str, wanted: ScreenConfig, seed: int) -> list[Proposal]:
    """Candidates of equal cost on which the proxy is compared with measurements."""
    genomes = equal_cost_genomes(with_default_limit(space, cost), wanted.candidates, np.random.default_rng(seed))
    return [Proposal(genome, wanted.tokens, DRAW, SAMPLE) for genome in genomes]


def screen_of(
    run: RunDirectory,
    space: Space,
    wanted: ScreenConfig,
    measured: Sequence[Evaluation],
    tabulate: Callable[[], ScoreTable],
    reporter: Reporter,
) -> Screen | None:
    """The screen, or None where the proxy disagrees with measurements; what it is based on is kept in `screen.json`.

    Args:
        measured: evaluations of `samples_for`.
        tabulate: makes the proxy's table.
    """
    if run.screen.exists():
        known = run.read(run.screen)
        table = ScoreTable(space, known["levels"], known["dropped"])
    else:
        table = tabulate()
    valid = [e for e in measured if e.status == "ok"]
    scores = table.scores(np.array([e.genome.levels for e in valid]))
    found = agreement(wanted.proxy, scores, np.array([e.quality for e in valid]))
    told = {"proxy": wanted.proxy, "tau": found.tau, "tau_range": found.tau_range, "candidates": len(valid)}
    run.write(run.screen, told | table.to_json())
    if not found.tau >= MIN_TAU or len(valid) < MIN_CANDIDATES:
        why = found.note or f"its Kendall tau is {found.tau:.2f} on {len(valid)} candidates"
        why += f"; from {MIN_TAU:g} on at least {MIN_CANDIDATES} it would"
        reporter.message(f"SS409 proxy {wanted.proxy} screens no children: {why}. Compare proxies: sparsesearch audit.")
        return None
    reporter.message(f"Proxy {wanted.proxy} screens children (Kendall tau {found.tau:.2f} on {len(valid)} candidates).")
    return Screen(table.scores, wanted.children, wanted.unscreened)
