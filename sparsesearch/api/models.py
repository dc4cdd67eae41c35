"""Measuring models: quality on texts, images and tasks, latency on a device; and choosing data with a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.config import RunConfig
from sparsesearch.engine.launch.access import TRUSTED, Access, report_code
from sparsesearch.errors import problem
from sparsesearch.process_state import no_progress_bars
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults

if TYPE_CHECKING:  # it imports torch
    from sparsesearch.latency import LatencyTable


def evaluate(
    targets: Sequence[str],
    *,
    text: str | Path | None = None,
    images: str | None = None,
    length: int = 256,
    first: int | None = None,
    batch: int = 8,
    model: str | None = None,
    trust_remote_code: bool = False,
) -> dict[str, dict[str, Any]]:
    """Measure perplexity on a text, or accuracy on labelled texts or images, by target.

    Args:
        targets: model directories, hub ids, exports, or candidates as `RUN/ID`.
        text: a text file, for perplexity, or a table of texts with columns `text` and `label`, for accuracy.
        images: a folder of classes, a .parquet file, or `datasets:ID`.
        length: tokens in a window.
        first: number of first windows or images to take; all if None.
        batch: windows or images in a forward pass.
        model: directory of the model of a candidate's run, if it was moved.
        trust_remote_code: run code that the targets name.

    Returns:
        By target: `perplexity` or `accuracy`, the numbers of samples and tokens, `params` and `nonzeros`.

    Raises InputError SS101 unless one of `text` and `images` is given, SS204 or SS504.
    """
    from sparsesearch.export.measuring.quality import evaluate_images, evaluate_text

    if (text is None) == (images is None):
        raise problem(
            "SS101", "evaluate needs either text or images.", fix="Give exactly one; for tasks: evaluate_tasks."
        )
    access = Access(model=model, trusted=trust_remote_code)
    with no_progress_bars():
        if images is not None:
            return {target: evaluate_images(target, images, first, batch, access) for target in targets}
        assert text is not None
        return {target: evaluate_text(target, Path(text), length, first, batch, access) for target in targets}


def evaluate_tasks(
    targets: Sequence[str],
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    include_path: Path | None = None,
    batch: int = 8,
    model: str | None = None,
    trust_remote_code: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Measure tasks of lm-eval on targets and on the dense models that they came from.

    Args:
        targets, batch, model, trust_remote_code: as for `evaluate`.
        tasks: names of tasks.
        limit: documents of each task; all if None.
        include_path: directory of further task files.
        note: called with lines of progress.
    """
    import datasets  # noqa: F401, whose progress bars are switched off if it is imported

    from sparsesearch.export.measuring.tasks import evaluate_tasks as measure

    access = Access(model=model, trusted=trust_remote_code)
    with no_progress_bars():
        return measure(targets, tasks, limit, include_path, batch, note, access)


def measure_latency(config: RunConfig, out: Path | None = None, quiet: bool = False) -> LatencyTable:
    """Measure the latency table of a recipe on the device that it names (`latency.device`).

    Args:
        out: file to write the table to, for `latency.table` of recipes on other machines; None writes none.
        quiet: show no progress on stderr.
    """
    from sparsesearch.config import SearchConfig, SupernetConfig
    from sparsesearch.engine.launch.latency_table import measure_now
    from sparsesearch.engine.launch.prepare import prepare

    reporter = Reporter(quiet)
    # Searcher, limits and objectives do not matter here; limits on latency cannot be checked without a table.
    objectives = [config.objectives[0], "params"]
    bare = {"limits": [], "objectives": objectives, "search": SearchConfig(searcher="random")}
    config = config.model_copy(update={"latency": config.latency.model_copy(update={"table": None})})
    with no_progress_bars():
        launch = prepare(config.model_copy(update=bare | {"supernet": SupernetConfig()}), reporter=reporter)
        calibration = launch.samples["calibration"]
        table = measure_now(config, launch.source, launch.network, launch.space, calibration, reporter)
    if out is not None:
        table.write(out)
    return table


def choose_samples(
    config: RunConfig,
    out: Path,
    *,
    by: str = "el2n",
    role: str = "calibration",
    pool: int = 1024,
    take: str = "middle",
    run: Path | None = None,
    pick: str | None = None,
    quiet: bool = False,
) -> dict[str, Any]:
    """Score samples with the dense network of a recipe and write as many as the recipe uses.

    Args:
        out: directory to write.
        by: score: `random`, `perplexity`, `el2n`, `grand` or `capability`.
        role: data of the recipe: `calibration` or `training`.
        pool: number of samples to choose from.
        take: samples to take: `hardest`, `middle` or `easiest`.
        run, pick: for `capability`: the run and the pick of the pruned candidate.
        quiet: do not say which code the recipe runs.
    """
    from sparsesearch.engine.workflows.choose import choose

    report_code(config, Reporter(quiet))
    pruned = None if run is None else partial(_pruned_network, run, pick, config)
    with no_progress_bars():
        return choose(config, role, by, pool, take, out, pruned)


def _pruned_network(run: Path, pick: str | None, config: RunConfig, weights: str) -> Any:
    """Return the network of a candidate of a run, as the search measured it.

    Raises InputError SS602 if the run is of another model than the recipe, SS129 if it names other code.
    """
    from sparsesearch.engine.launch.access import check_same_code
    from sparsesearch.engine.reopen import open_run

    results = RunResults(run)
    results.require_front()
    if results.info["fingerprint"]["weights"] != weights:
        raise problem(
            "SS602", f"run (--run) {run} is of another model than the recipe.", fix="Give a run of the same model."
        )
    check_same_code(run, config)
    reopened, genome = open_run(results, TRUSTED), results.pick(pick or "knee").genome
    model = reopened.supernet.materialise(genome).float()
    reopened.norms.correct(model, genome)
    return model.eval()
