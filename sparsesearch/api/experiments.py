"""Experiments of several runs: comparisons of searchers, audits of proxies, and pruning in stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.api.paths import usable_path
from sparsesearch.config import RunConfig, SearchConfig, load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.errors import problem
from sparsesearch.files import write_text
from sparsesearch.process_state import no_progress_bars
from sparsesearch.runs.directory import check_vacant
from sparsesearch.runs.progress import Reporter

if TYPE_CHECKING:  # they import torch
    from sparsesearch.api.run import Run
    from sparsesearch.engine.workflows.audit import Audit
    from sparsesearch.report.comparison import Comparison


def compare(
    config: RunConfig,
    path: Path,
    searchers: Sequence[str],
    tokens: int,
    *,
    seeds: Sequence[int] = (0, 1, 2),
    sizes: Sequence[str] = (),
    options: Mapping[str, dict[str, Any]] | None = None,
    quiet: bool = False,
) -> Comparison:
    """Run searchers with equal token budgets and several seeds; the same call continues after an interruption.

    Writes compare.html, compare.png and compare.json to `path`, with a separate run for every searcher and seed.

    Args:
        config: a recipe; its searcher and budget are ignored.
        path: directory of the comparison.
        searchers: names, or `LABEL=NAME`.
        tokens: token budget of each search.
        seeds: random seeds.
        sizes: shares of the first cost objective at which qualities are compared, as `80%`.
        options: options of searchers, by label.
        quiet: show no progress on stderr.

    Raises InputError SS102 for duplicates, SS602 if a run in `path` is of another comparison; also as `search`.
    """
    from sparsesearch.engine.launch.plan import check_disk
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.workflows.compare import check_runs, contenders, run_all, search_of, sized
    from sparsesearch.report.comparison import compare_results
    from sparsesearch.report.pages.compare_page import comparison_json, write_page, write_picture

    reporter, options = Reporter(quiet), options or {}
    all_contenders = contenders(path, searchers, seeds)
    searches = {c: search_of(config.search, c, tokens, options.get(c.name, {})) for c in all_contenders}
    launch = prepare(config.model_copy(update={"search": searches[all_contenders[0]]}), reporter=reporter)
    launches = {contender: launch.with_search(search) for contender, search in searches.items()}
    spaces = sized(launch.space, config.objectives[1], sizes)
    for space in spaces.values():
        space.check()
    check_runs(launches, path)
    path.mkdir(parents=True, exist_ok=True)
    check_disk(launch, path)
    results = run_all(launches, reporter)
    comparison = compare_results(launches, results, spaces, tokens, path / "judged", reporter)
    write_page(comparison, path / "compare.html", path.name)
    write_picture(comparison, path / "compare.png")
    write_text(path / "compare.json", json.dumps(comparison_json(comparison), indent=1))
    return comparison


def audit(
    config: RunConfig,
    path: Path,
    proxies: Sequence[str] = (),
    *,
    samples: int = 60,
    tokens: int = 0,
    train: int = 0,
    quiet: bool = False,
) -> Audit:
    """Correlate proxies with measured quality at equal cost; the same call continues after an interruption.

    Writes audit.html, audit.png and audit.json to `path`.

    Args:
        config: a recipe; its searcher is ignored.
        path: directory of the audit.
        proxies: names; if empty, all that can score the network.
        samples: number of candidates, all of equal cost.
        tokens: selection tokens on which each is measured; 0 for all.
        train: training tokens of each candidate, to compare with quality after training too; 0 for none.
        quiet: show no progress on stderr.

    Raises InputError SS102 or SS116 for a proxy; also as `search`.
    """
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.workflows import audit as workflow
    from sparsesearch.report.pages.audit_page import audit_json, write_page, write_picture

    reporter = Reporter(quiet)
    # Candidates are drawn, not searched.
    config = config.model_copy(update={"search": SearchConfig(searcher="random", seed=config.search.seed)})
    launch = workflow.with_limits(prepare(config, reporter=reporter))
    launch.space.check()
    audited = workflow.choose_proxies(launch, proxies)
    result = workflow.audit(launch, path, audited, samples, tokens, train, reporter)
    write_page(result, path / "audit.html", path.name)
    write_picture(result, path / "audit.png")
    write_text(path / "audit.json", json.dumps(audit_json(result), indent=1))
    return result


def iterate(
    recipe: Path,
    first_path: Path,
    out: Path,
    *,
    stages: int = 3,
    train: int = 1_000_000,
    changes: dict[str, Any] | None = None,
    quiet: bool = False,
) -> list[dict[str, Any]]:
    """Search, recover and export in stages, each on the model of the one before.

    The same call continues after an interruption. All stages are compared with, and distilled from, the first model.

    Args:
        recipe: file of a recipe with sparsity units and limits.
        first_path: directory of the first stage's run; its name ends with 1, the others' with 2, 3, ...
        out: directory of the last model; must not exist or be empty.
        stages: number of stages; each removes the same share of the rest.
        train: training tokens (or samples) after each stage.
        changes: other keys of the recipe to set.
        quiet: show no progress on stderr.

    Returns:
        The report of each stage's export, with `stage`, and quality `before` and `after` training.
    """
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.reopen import open_run
    from sparsesearch.engine.workflows.iterate import changes_of_stage, check_stages, recover_stage, search_stage
    from sparsesearch.export.write import write_recovered

    check_vacant(out)
    reporter, reports, changes = Reporter(quiet), [], changes or {}
    config = load_config(recipe, changes)
    launch = prepare(config, reporter=reporter)
    check_stages(launch, train)
    current = config.model.id
    # Recovery may only change training; each stage's run has all other changes.
    training = {key: value for key, value in changes.items() if key.startswith(("training", "data.training"))}
    with no_progress_bars():
        for stage in range(1, stages + 1):
            path = first_path.with_name(f"{first_path.name.removesuffix('1')}{stage}")
            stage_changes = changes_of_stage(launch, current, stage, stages)
            reporter.message(f"Stage {stage} of {stages}: {', '.join(stage_changes['limits'])}")
            results = search_stage(prepare(load_config(recipe, changes | stage_changes)), path, reporter)
            recovered = recover_stage(results, training, train, reporter)
            # Other options of training give another directory beside it.
            directory = path / f"model-{recovered.weights.parents[1].name}" if stage < stages else out
            report = write_recovered(open_run(results, TRUSTED), recovered, directory, "zeros")
            reports.append(report | {"stage": stage})
            current = str(directory.resolve())
    return reports


def report_runs(
    runs: Sequence[Run], out: str | Path | None = None, offline: bool = False, figures: bool = False
) -> list[Path]:
    """Write one page that compares the fronts of runs; returns the paths.

    Args:
        out: file of the page; `comparison.html` of the first run if None.
        offline, figures: as for `Run.report`.

    Raises InputError SS126 if the directory of `out` does not exist.
    """
    from sparsesearch.report.pages.png import write_runs_figures
    from sparsesearch.report.pages.runs_page import write_runs_page

    page = runs[0].path / "comparison.html" if out is None else Path(out)
    if not usable_path(page, "out (--out)").parent.is_dir():
        raise problem("SS126", f"out (--out) {page}: directory {page.parent} does not exist.", fix="Make it first.")
    results = [run.results for run in runs]
    paths = [write_runs_page(results, page, offline)]
    return paths + (write_runs_figures(results, page.parent / "figures") if figures else [])
