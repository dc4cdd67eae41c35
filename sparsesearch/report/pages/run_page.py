"""The HTML report of a run: one page that needs no server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from sparsesearch.errors import DamagedFile
from sparsesearch.report import run_files
from sparsesearch.report.facts import count_unit
from sparsesearch.report.lineage import Ancestry
from sparsesearch.report.pages import page_tables
from sparsesearch.report.pages.figures import (
    front_figure,
    ladder_figure,
    latency_figure,
    lineage_figure,
    progress_figure,
    rungs_figure,
    seconds_figure,
)
from sparsesearch.report.pages.page import card, data_block, figure_div, html_table, pair, section, stack, write_html
from sparsesearch.report.pages.proxy_agreement import agreement_figure, audits_of
from sparsesearch.report.payload import candidates, key_of, picks_by_name, space_data
from sparsesearch.report.terminal import latency_table
from sparsesearch.report.texts import cost_name, cost_text, short_number
from sparsesearch.runs.results import RunResults

_FRONT_NOTE = (
    "Hover over a candidate to see its genome, click on it to see how much of every layer it keeps. Front, uniform and "
    "dense are measured on all selection data, grey points on the samples that the search used for them."
)
_NO_FRONT_NOTE = "No candidate respects every limit: raise the limits, or search longer. "
_PROGRESS_NOTE = (
    "Hypervolume: the volume of objective space, up to the reference point, that the candidates so far dominate; it "
    "rises as the front gets better or longer."
)
_LADDER_NOTE = (
    "Quality of trained candidates after numbers of training tokens; the best of all sizes are trained further, and "
    "uniform ones for comparison. All see the same data in the same order."
)
_LINEAGE_NOTE = (
    "Each step is a parent of the next one: the candidate that it was mutated or crossed from, or around which an "
    "exact solution was computed; of two parents, the one that differs in fewer units. Qualities are on the largest "
    "number of sequences that the candidate was measured on."
)
_LATENCY_NOTE = (
    "Latencies predicted from the table of pieces, and measured ones of whole candidates. The error is that of the "
    "share of dense, so it does not depend on the speed of the machine when the table was made."
)
_LEDGER_NOTE = "Selection data by fidelity, from the archive; seconds by phase, from the ledger."
_WAITING = Markup("<p>No final measurements yet: the run is still going, or 'sparsesearch resume' continues it.</p>")
# The script fills this with the clicked candidate.
_PANEL = Markup(
    '<div class="card" id="candidate" aria-live="polite"><h3></h3><dl></dl><div id="layers"></div>'
    "<noscript>The chart of a candidate's layers needs JavaScript.</noscript></div>"
)


def write_report(results: RunResults, offline: bool = False) -> Path:
    """Write `report.html` into the run; `offline` as in `write_html`."""
    return write_html(results.run.path / "report.html", results.run.path.name, _sections(results, offline), offline)


def panel(spaces: list[dict[str, Any]], by_key: dict[str, Any], first: str) -> Markup:
    """Return the panel of a candidate's chart, with the data from which the script draws it.

    Args:
        spaces: `space_data` of each run of the page.
        by_key: `candidates` of all runs.
        first: key of the candidate that is shown first.
    """
    return _PANEL + data_block("candidates", {"spaces": spaces, "candidates": by_key, "first": first})


def _sections(results: RunResults, offline: bool) -> list[Markup]:
    if not results.final:
        return [_header(results), _WAITING, _ledger(results)]
    return [
        _header(results),
        _front(results),
        _progress(results),
        _ladder(results),
        _lineage(results),
        _optional(lambda: _latency(results)),
        _optional(lambda: _proxies(results, offline)),
        _optional(lambda: _exports(results)),
        _not_searched(results),
        _ledger(results),
    ]


def _optional(make: Callable[[], Markup]) -> Markup:
    """Return a section that the front does not depend on, or a note if its file is damaged."""
    try:
        return make()
    except DamagedFile as error:
        return Markup('<p class="note">Left out: {}</p>').format(error.message)


def _not_searched(results: RunResults) -> Markup:
    """Return the parts of the network that no unit touches or costs leave out, with the reasons; empty without any."""
    reasons = results.info.get("not_searched", [])
    return section("Not searched", note=" ".join(f"{reason}." for reason in reasons)) if reasons else Markup()


def _header(results: RunResults) -> Markup:
    info, limits = results.info, ", ".join(b.text for b in results.space.bounds) or "none"
    facts = [
        info["model"],
        f"{len(results.space.units):,} units",
        f"searcher {info['fingerprint']['searcher']}",
        f"objectives {', '.join(results.objectives)}",
        f"limits: {limits}",
        f"{len(results.evaluations):,} evaluations",
        f"{results.tokens:,} selection {count_unit(results)}",
    ]
    tiles = _tiles(results) if results.final else ""
    return Markup('<header><h1>{}</h1><p class="note">{}</p>{}</header>').format(
        results.run.path.name, " · ".join(facts), tiles
    )


def _tiles(results: RunResults) -> Markup:
    """Return a tile for each pick, a click on which shows the candidate, and one for the hypervolume."""
    cost, tiles = results.objectives[1], []
    dense = max(results.space.dense_costs[cost], 1)
    for rule, evaluation in picks_by_name(results).items():
        value = evaluation.costs[cost]
        size = f"{cost_name(cost)} {cost_text(cost, value)}, {value / dense:.0%} of dense"
        tiles.append(_tile(rule, f"{results.quality} {evaluation.quality:.4f}", size, key_of(evaluation)))
    tiles.append(
        _tile("hypervolume", short_number(results.hypervolume()), f"{len(results.front)} candidates on the front")
    )
    return Markup('<div class="tiles">{}</div>').format(Markup().join(tiles))


def _tile(name: str, value: str, detail: str, key: str = "") -> Markup:
    content = Markup("<small>{}</small><strong>{}</strong><small>{}</small>").format(name, value, detail)
    if not key:
        return Markup('<div class="tile">{}</div>').format(content)
    return Markup('<button type="button" data-key="{}" class="tile">{}</button>').format(key, content)


def _front(results: RunResults) -> Markup:
    first = key_of(results.pick("knee") if results.front else results.final[0])
    figures = [card(figure_div(front_figure(results, cost))) for cost in results.objectives[1:]]
    chart = panel([space_data(results.space)], candidates(results), first)
    note = _FRONT_NOTE if results.front else _NO_FRONT_NOTE + _FRONT_NOTE
    plots = section("The front", pair(stack(*figures), chart), note=note)
    return plots + card(page_tables.front_table(results))


def _progress(results: RunResults) -> Markup:
    return section("Progress", card(figure_div(progress_figure(results))), note=_PROGRESS_NOTE)


def _ladder(results: RunResults) -> Markup:
    if not results.rung_evaluations:
        return Markup()
    return section("Rungs of training", card(figure_div(ladder_figure(results))), note=_LADDER_NOTE)


def _lineage(results: RunResults) -> Markup:
    ancestry = Ancestry(results)
    chains = {rules: ancestry.chain(e.genome) for rules, e in picks_by_name(results).items()}
    chains = {rule: steps for rule, steps in chains.items() if steps}
    if not chains:
        return Markup()
    details = [
        Markup("<details><summary>{}: {}, {} in the chain</summary>{}</details>").format(
            rule, steps[-1].origin, len(steps), page_tables.lineage_table(results, steps)
        )
        for rule, steps in chains.items()
    ]
    has_parents = any(len(steps) > 1 for steps in chains.values())
    figure = card(figure_div(lineage_figure(results, chains))) if has_parents else Markup()
    return section("Lineage of the picks", figure, card(*details), note=_LINEAGE_NOTE)


def _keys(results: RunResults) -> dict[str, str]:
    """Return the page's keys by id; for a trained candidate the key of its trained version."""
    keys = {e.genome.id: key_of(e) for e in results.final}
    return keys | {e.genome.id: key_of(e) for e in [*results.baselines, *results.front]}


def _latency(results: RunResults) -> Markup:
    latencies = run_files.read_latencies(results)
    if not latencies:
        return Markup()
    rows = html_table(latency_table(results, latencies))
    if "predicted_ns" not in latencies["dense"]:
        return section("Latency", rows)
    figure = card(figure_div(latency_figure(latencies, _keys(results))))
    return section("Latency, predicted and measured", pair(figure, stack(rows)), note=_LATENCY_NOTE)


def _proxies(results: RunResults, offline: bool) -> Markup:
    parts = []
    if screening := run_files.read_screening(results):
        parts.append(Markup("<p>{}</p>").format(_screen_text(screening)))
    for audit in audits_of(results):
        name = audit.parent.name
        link = Markup('<a href="../{}/audit.html">{}</a>').format(quote(os.fsencode(name)), name)
        parts.append(Markup("<p>Audit {}:</p>").format(name if offline else link))
        parts.append(card(figure_div(agreement_figure(run_files.read_audit(audit)))))
    return section("Proxies", *parts) if parts else Markup()


def _screen_text(screening: run_files.Screening) -> str:
    low, high = screening["tau_range"]
    return (
        f"Proxy {screening['proxy']} was compared with measurements before screening: Kendall's tau "
        f"{screening['tau']:.2f} [{low:.2f}, {high:.2f}] on {screening['candidates']} candidates of equal cost."
    )


def _exports(results: RunResults) -> Markup:
    table = page_tables.exports_table(results, _keys(results))
    return section("Exports", card(table)) if table else Markup()


def _ledger(results: RunResults) -> Markup:
    sums = page_tables.phases(results)
    if not sums:
        return Markup()
    figures = pair(card(figure_div(rungs_figure(results))), card(figure_div(seconds_figure(sums))))
    return section("Costs of the search", figures, card(page_tables.ledger_table(sums)), note=_LEDGER_NOTE)
