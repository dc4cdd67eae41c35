"""Experiments of several runs: comparisons of searchers, audits of proxies, and pruning in stages."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.config import RunConfig, SearchConfig, load_config
from sparsesearch.engine.launch.access import TRUSTED
from sparsesearch.files import write_text
from sparsesearch.process_state import no_progress_bars
from sparsesearch.runs.directory import check_vacant
from sparsesearch.runs.progress import Reporter

if TYPE_CHECKING:  # torch comes with them
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
    """Run searchers with equal token budgets and several seeds; the same call goes on after an interruption.

    Writes compare.html, compare.png and compare.json to `path`, in which every searcher and seed has a run of its own.

    Args:
        config: a recipe, whose searcher and budget do not count.
        searchers: names, or `LABEL=NAME`.
        tokens: selection tokens that each search may spend.
        sizes: shares of the first cost objective at which qualities are compared, as `80%`.
        options: of searchers, by label.
    """
    from sparsesearch.engine.launch.plan import check_disk
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.workflows.compare import check_runs, contenders, run_all, search_of, sized
    from sparsesearch.report.comparison import compare_results
    from sparsesearch.report.pages.compare_page import comparison_json, write_page, write_picture

    reporter, options = Reporter(quiet), options or {}
    everyone = contenders(path, searchers, seeds)
    searches = {c: search_of(config.search, c, tokens, options.get(c.name, {})) for c in everyone}
    launch = prepare(config.model_copy(update={"search": searches[everyone[0]]}), reporter=reporter)
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
    """Correlate proxies with measured quality at equal cost; the same call goes on after an interruption.

    Writes audit.html, audit.png and audit.json to `path`.

    Args:
        config: a recipe, whose searcher does not count.
        proxies: names; all that can score the network if there are none.
        samples: candidates, all of equal cost.
        tokens: selection tokens on which each is measured; 0 for all.
        train: training tokens of each candidate, to compare with its quality after that too; 0 for none.
    """
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.workflows import audit as workflow
    from sparsesearch.report.pages.audit_page import audit_json, write_page, write_picture

    reporter = Reporter(quiet)
    # Candidates are drawn, not searched.
    config = config.model_copy(update={"search": SearchConfig(searcher="random", seed=config.search.seed)})
    launch = workflow.with_limits(prepare(config, reporter=reporter))
    launch.space.check()
    chosen = workflow.choose_proxies(launch, proxies)
    result = workflow.audit(launch, path, chosen, samples, tokens, train, reporter)
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
    """Search, recover and export, from each stage's model to the next; the same call goes on after an interruption.

    All stages are compared with, and distilled from, the first model.

    Args:
        first_path: directory of the first stage's run; its name ends with 1, the others' with 2, 3, ...
        out: directory of the last model; must not exist or be empty.
        stages: each removes the same share of what is left.
        train: training tokens (samples) after each stage.

    Returns:
        The report of each stage's export, with `stage`, and quality `before` and `after` training.
    """
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.engine.reopen import open_run
    from sparsesearch.engine.workflows.iterate import changes_of_stage, check_stages, recover_stage, searched_stage
    from sparsesearch.export.write import write_recovered

    check_vacant(out)
    reporter, reports, changes = Reporter(quiet), [], changes or {}
    config = load_config(recipe, changes)
    launch = prepare(config, reporter=reporter)
    check_stages(launch, train)
    current = config.model.id
    # Of the changes, those of training alone: all others are in each stage's run.
    training = {key: value for key, value in changes.items() if key.startswith(("training", "data.training"))}
    with no_progress_bars():
        for stage in range(1, stages + 1):
            path = first_path.with_name(f"{first_path.name.removesuffix('1')}{stage}")
            stage_changes = changes_of_stage(launch, current, stage, stages)
            reporter.message(f"Stage {stage} of {stages}: {', '.join(stage_changes['limits'])}")
            results = searched_stage(prepare(load_config(recipe, changes | stage_changes)), path, reporter)
            recovered = recover_stage(results, training, train, reporter)
            # Beside one another for other ways of training.
            place = path / f"model-{recovered.weights.parents[1].name}" if stage < stages else out
            report = write_recovered(open_run(results, TRUSTED), recovered, place, "zeros")
            reports.append(report | {"stage": stage})
            current = str(place.resolve())
    return reports
