"""The HTML report: one page that works from a file."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from markupsafe import Markup

from sparsesearch.errors import DamagedFile
from sparsesearch.report import run_files
from sparsesearch.report.facts import counted
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
from sparsesearch.report.pages.page import card, data_block, figure_div, html_table, page, pair, section, stack
from sparsesearch.report.pages.proxy_agreement import agreement_figure, audits_of
from sparsesearch.report.payload import candidates, key_of, picked, space_data
from sparsesearch.report.terminal import latency_table
from sparsesearch.report.texts import cost_name, cost_text, short
from sparsesearch.runs.results import RunResults

_FRONT_NOTE = (
    "Hover for a candidate's genome, click on it for what it keeps of every layer. Front, uniform and dense are "
    "measured on all selection data, grey points on the samples that the search spent on them."
)
_NO_FRONT_NOTE = "No candidate respects every limit: raise the limits, or go on longer. "
_PROGRESS_NOTE = (
    "Hypervolume: how much of the space of objectives the candidates found so far dominate, up to the reference point; "
    "it rises as the front gets better or longer."
)
_LADDER_NOTE = (
    "Quality of the candidates that climbed, by the training tokens they have seen; the best of all sizes go on, "
    "uniform ones beside them. All saw the same data in the same order."
)
_LINEAGE_NOTE = (
    "Each step is a parent of the next one: what it was mutated or crossed from, or the best candidate that an exact "
    "solution was looked for around; of two parents, the one that differs in fewer units. Qualities are on as many "
    "sequences as the candidate was measured on."
)
_LATENCY_NOTE = (
    "What the table of latencies predicts from pieces, and what whole candidates took. The error is that of the share "
    "of dense: how fast the machine was when the table was made plays no part in it."
)
_LEDGER_NOTE = "Selection data by fidelity, from the archive; seconds by phase, from the ledger."
_WAITING = Markup("<p>No final measurements yet: the run goes on, or 'sparsesearch resume' ends it.</p>")
# What the script fills with the candidate that was clicked.
_PANEL = Markup(
    '<div class="card" id="candidate" aria-live="polite"><h3></h3><dl></dl><div id="layers"></div>'
    "<noscript>The chart of a candidate's layers needs JavaScript.</noscript></div>"
)


def write_report(results: RunResults, offline: bool = False) -> Path:
    """Write `report.html` into the run; `offline` as for `page`."""
    return page(results.run.path / "report.html", results.run.path.name, _sections(results, offline), offline)


def panel(spaces: list[dict[str, Any]], known: dict[str, Any], first: str) -> Markup:
    """The place of a candidate's chart, and what the script draws it from.

    Args:
        spaces: `space_data` of each run of the page.
        known: `candidates` of all of them.
        first: key of the one that is shown before anything is clicked.
    """
    return _PANEL + data_block("candidates", {"spaces": spaces, "candidates": known, "first": first})


def _sections(results: RunResults, offline: bool) -> list[Markup]:
    if not results.final:
        return [_header(results), _WAITING, _ledger(results)]
    return [
        _header(results),
        _front(results),
        _progress(results),
        _ladder(results),
        _lineage(results),
        _decoration(lambda: _latency(results)),
        _decoration(lambda: _proxies(results, offline)),
        _decoration(lambda: _exports(results)),
        _not_searched(results),
        _ledger(results),
    ]


def _decoration(make: Callable[[], Markup]) -> Markup:
    """A section that says nothing of the front, or why it is left out."""
    try:
        return make()
    except DamagedFile as error:
        return Markup('<p class="note">Left out: {}</p>').format(error.message)


def _not_searched(results: RunResults) -> Markup:
    """What of the network no unit touches or costs leave out, and why; nothing where the run says nothing of it."""
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
        f"{results.tokens:,} selection {counted(results)}",
    ]
    tiles = _tiles(results) if results.final else ""
    return Markup('<header><h1>{}</h1><p class="note">{}</p>{}</header>').format(
        results.run.path.name, " · ".join(facts), tiles
    )


def _tiles(results: RunResults) -> Markup:
    """A tile for each pick, which shows it when it is clicked, and the hypervolume."""
    cost, made = results.objectives[1], []
    dense = max(results.space.dense_costs[cost], 1)
    for rule, evaluation in picked(results).items():
        value = evaluation.costs[cost]
        size = f"{cost_name(cost)} {cost_text(cost, value)}, {value / dense:.0%} of dense"
        made.append(_tile(rule, f"{results.quality} {evaluation.quality:.4f}", size, key_of(evaluation)))
    made.append(_tile("hypervolume", short(results.hypervolume()), f"{len(results.front)} candidates on the front"))
    return Markup('<div class="tiles">{}</div>').format(Markup().join(made))


def _tile(name: str, value: str, more: str, key: str = "") -> Markup:
    inside = Markup("<small>{}</small><strong>{}</strong><small>{}</small>").format(name, value, more)
    if not key:
        return Markup('<div class="tile">{}</div>').format(inside)
    return Markup('<button type="button" data-key="{}" class="tile">{}</button>').format(key, inside)


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
    if not results.climbed:
        return Markup()
    return section("Rungs of training", card(figure_div(ladder_figure(results))), note=_LADDER_NOTE)


def _lineage(results: RunResults) -> Markup:
    ancestry = Ancestry(results)
    chains = {rules: ancestry.chain(e.genome) for rules, e in picked(results).items()}
    chains = {rule: steps for rule, steps in chains.items() if steps}
    if not chains:
        return Markup()
    shown = [
        Markup("<details><summary>{}: {}, {} in the chain</summary>{}</details>").format(
            rule, steps[-1].origin, len(steps), page_tables.lineage_table(results, steps)
        )
        for rule, steps in chains.items()
    ]
    grown = any(len(steps) > 1 for steps in chains.values())
    figure = card(figure_div(lineage_figure(results, chains))) if grown else Markup()
    return section("Lineage of the picks", figure, card(*shown), note=_LINEAGE_NOTE)


def _keys(results: RunResults) -> dict[str, str]:
    """Keys of the page by id; of a candidate that was trained, that."""
    found = {e.genome.id: key_of(e) for e in results.final}
    return found | {e.genome.id: key_of(e) for e in [*results.baselines, *results.front]}


def _latency(results: RunResults) -> Markup:
    found = run_files.latencies(results)
    if not found:
        return Markup()
    rows = html_table(latency_table(results, found))
    if "predicted_ns" not in found["dense"]:
        return section("Latency", rows)
    figure = card(figure_div(latency_figure(found, _keys(results))))
    return section("Latency, predicted and measured", pair(figure, stack(rows)), note=_LATENCY_NOTE)


def _proxies(results: RunResults, offline: bool) -> Markup:
    parts = []
    if known := run_files.screened(results):
        parts.append(Markup("<p>{}</p>").format(_screen_text(known)))
    for audit in audits_of(results):
        name = audit.parent.name
        link = Markup('<a href="../{}/audit.html">{}</a>').format(quote(os.fsencode(name)), name)
        parts.append(Markup("<p>Audit {}:</p>").format(name if offline else link))
        parts.append(card(figure_div(agreement_figure(run_files.audited(audit)))))
    return section("Proxies", *parts) if parts else Markup()


def _screen_text(known: run_files.Screened) -> str:
    low, high = known["tau_range"]
    return (
        f"Proxy {known['proxy']} was compared with measurements before it might screen children: Kendall's tau "
        f"{known['tau']:.2f} [{low:.2f}, {high:.2f}] on {known['candidates']} candidates of equal cost."
    )


def _exports(results: RunResults) -> Markup:
    made = page_tables.exports_table(results, _keys(results))
    return section("Exports", card(made)) if made else Markup()


def _ledger(results: RunResults) -> Markup:
    sums = page_tables.phases(results)
    if not sums:
        return Markup()
    figures = pair(card(figure_div(rungs_figure(results))), card(figure_div(seconds_figure(sums))))
    return section("What it cost", figures, card(page_tables.ledger_table(sums)), note=_LEDGER_NOTE)
