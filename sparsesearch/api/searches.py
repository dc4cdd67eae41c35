"""Running, planning and repairing searches."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.api.paths import run_path
from sparsesearch.api.reports import finish
from sparsesearch.api.run import Run
from sparsesearch.config import PYTHON_SOURCE, RunConfig, load_config, override, validate
from sparsesearch.engine.launch.access import Access
from sparsesearch.errors import problem
from sparsesearch.runs.progress import Reporter

if TYPE_CHECKING:  # it imports torch
    from sparsesearch.engine.launch.launch import Launch

Recipe = str | Path | dict[str, Any] | RunConfig


def search(
    subject: Any,
    recipe: Recipe | None = None,
    *,
    example_inputs: Any = None,
    data: dict[str, Any] | None = None,
    quality: Any = None,
    name: str | None = None,
    results: str | Path = "results",
    calibration: str | Path | Iterable[str] | None = None,
    selection: str | Path | Iterable[str] | None = None,
    test: str | Path | Iterable[str] | None = None,
    changes: dict[str, Any] | None = None,
    quiet: bool = False,
) -> Run:
    """Run a search to its end.

    Args:
        subject: a recipe, which names its model: a YAML file, its content as a dictionary, or a RunConfig; or your own
            torch.nn.Module, which is not changed.
        recipe: for a module: the recipe of its search.
        example_inputs: for a module: inputs to trace its `forward` with, a tensor or a tuple of tensors with a first
            axis of samples, shaped like `data`; its first calibration sample if None.
        data: for a module: `{"calibration": inputs, "selection": (inputs, labels), ...}`; inputs are an array or tensor
            (samples, ...), or a tuple of them in the order of `forward`.
        quality: `f(model, samples)`, a loss (lower is better) for each sample or for all, for the objective `quality`.
        name: name of the run, a directory in `results`; the recipe's file name if None.
        calibration, selection, test: a file, or documents, instead of the recipe's data sources.
        changes: other keys of the recipe to set, as `{"search.evals": 200, "limits": ["params<=60%"]}`.
        quiet: show no progress on stderr.

    Raises SparseSearchError before anything long starts if something is wrong, InfeasibleError SS406 in the end if no
    candidate respects every limit.
    """
    from sparsesearch.data.python_inputs import inputs_of_forward, samples_by_role, samples_from_arrays
    from sparsesearch.engine.launch.prepare import PythonInputs, prepare

    texts = {r: t for r, t in (("calibration", calibration), ("selection", selection), ("test", test)) if t is not None}
    module, recipe = _module_and_recipe(subject, recipe)
    if module is None and (data is not None or example_inputs is not None):
        raise problem("SS101", "search: data= and example_inputs= are for a module.", fix=_TEXTS)
    example = []
    if example_inputs is not None:
        example = samples_from_arrays("example", example_inputs, _as_many(example_inputs)).inputs_on_cpu()
    counts = _as_many(example) if example else inputs_of_forward(module) if module is not None else range(1)
    inputs: dict[str, Any] = dict(samples_by_role({} if data is None else data, counts))
    inputs |= {role: text for role, text in texts.items() if not isinstance(text, (str, Path))}
    sources = {role: str(text) for role, text in texts.items()} | dict.fromkeys(inputs, PYTHON_SOURCE)
    config = _changed(_config(recipe), sources, changes or {})
    default = Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"
    path, reporter = run_path(Path(results), default if name is None else name), Reporter(quiet)
    launch = prepare(config, PythonInputs(module, example, inputs, quality), reporter=reporter)
    return run_search(launch, path, reporter)


def run_search(launch: Launch, path: Path, reporter: Reporter) -> Run:
    """Run a prepared search in a new directory; raises as `search` does."""
    from sparsesearch.engine import controller
    from sparsesearch.engine.workers.cluster import idle_gpu

    if note := idle_gpu(launch.config.executor):
        reporter.message(note)
    module = getattr(launch.source, "module", None)
    access = Access(module, launch.quality, trusted=True)
    run = Run(controller.start(launch, path, reporter), access)
    finish(run.results, lambda: run.reopened, reporter)
    return run


def repair_run(path: Path, config: RunConfig, quiet: bool = False) -> Run:
    """Write the small files of a damaged run anew from its recipe, and continue from its archive."""
    from sparsesearch.engine import controller

    reporter = Reporter(quiet)
    run = Run(controller.repair_run(path, config, reporter), Access(trusted=True))
    finish(run.results, lambda: run.reopened, reporter)
    return run


def plan(launch: Launch) -> dict[str, Any]:
    """Return the plan of a search: units, cost ranges, limits, supernet and disk."""
    from sparsesearch.engine.launch.plan import plan_json

    return plan_json(launch)


def check_dry_run(launch: Launch, path: Path) -> None:
    """Make all checks of a search at its start, and write nothing; raises as `run_search` does."""
    from sparsesearch.engine.launch.plan import check_disk
    from sparsesearch.engine.workers.cluster import check_machine
    from sparsesearch.runs.directory import RunDirectory

    RunDirectory.check_new(path)
    check_disk(launch, path.parent)
    check_machine(launch.config.executor)


_TEXTS = "For a recipe's model give calibration=, selection= and test=."


def _changed(config: RunConfig, sources: dict[str, str], changes: dict[str, Any]) -> RunConfig:
    """Return a recipe with other keys and data sources by role; a missing role has the options of `selection`."""
    tree = config.model_dump()
    for role, source in sources.items():
        tree["data"][role] = {**(tree["data"][role] or tree["data"]["selection"]), "source": source}
    for key, value in changes.items():
        override(tree, key, value)
    return validate(tree, "recipe")


def _as_many(inputs: Any) -> range:
    """Return the number of inputs, as the range that `samples_by_role` takes."""
    count = len(inputs) if isinstance(inputs, (tuple, list)) else 1
    return range(count, count + 1)


def _module_and_recipe(subject: Any, recipe: Recipe | None) -> tuple[Any, Recipe]:
    """Return the module, if one is given, and the recipe; raises InputError SS101 for anything else."""
    from torch import nn

    if recipe is None and isinstance(subject, (str, Path, dict, RunConfig)):
        return None, subject
    if recipe is not None and isinstance(subject, nn.Module):
        return subject, recipe
    arguments = type(subject).__name__ + (", recipe" if recipe is not None else "")
    raise problem(
        "SS101", f"search({arguments}): unsupported arguments.", fix="Call search(recipe) or search(module, recipe)."
    )


def _config(recipe: Recipe) -> RunConfig:
    if isinstance(recipe, RunConfig):
        return recipe
    return validate(recipe, "recipe") if isinstance(recipe, dict) else load_config(Path(recipe))
