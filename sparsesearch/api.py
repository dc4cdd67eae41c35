"""The Python door: as short as the command line.

import sparsesearch as ss
run = ss.search("search_spaces/quickstart.yaml", name="mine")
best = run.pick("knee")
run.export(best, "smaller-model")
model = ss.load("smaller-model")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sparsesearch.config import PYTHON_SOURCE, RunConfig, load_config, override, validate
from sparsesearch.engine.results import RunResults
from sparsesearch.errors import InputError
from sparsesearch.searchers.base import Evaluation


class Run:
    """A run directory: its front, its picks, and exports of them."""

    def __init__(self, results: RunResults, module: Any = None, quality: Any = None) -> None:
        """
        Args:
            module, quality: what was given from Python and no run directory holds.
        """
        self.results, self.module, self.quality = results, module, quality

    @classmethod
    def open(cls, path: str | Path, module: Any = None, quality: Any = None) -> Run:
        """An existing run; raises InputError SS600.

        Args:
            module, quality: for a run on a module, or with a quality, of your own: the same again.
        """
        return cls(RunResults(Path(path)), module, quality)

    @property
    def path(self) -> Path:
        return self.results.run.path

    def front(self) -> list[Evaluation]:
        """Non-dominated candidates within every limit, measured on all selection data, smallest first."""
        return self.results.front

    def pick(self, rule: str = "knee") -> Evaluation:
        """One of the front: `knee`, `min:kl`, `max-under:params=60%`, `weights:kl=.7,params=.3`."""
        return self.results.pick(rule)

    def export(self, candidate: Evaluation, out: str | Path, form: str = "auto") -> dict[str, Any]:
        """Write a candidate as a model and verify it in a fresh process (`sparsesearch.export.export`)."""
        from transformers.utils import logging

        from sparsesearch.export import export

        logging.disable_progress_bar()
        return export(self.results, candidate, Path(out), form, self.module)

    def resume(self, evals: int | None = None) -> Run:
        """Go on, to `evals` evaluations in all where given."""
        from sparsesearch.engine import controller
        from sparsesearch.engine.progress import Reporter

        changes = {"search.evals": evals} if evals is not None else {}
        found = controller.resume(self.path, changes, Reporter(), self.module, self.quality)
        return Run(found, self.module, self.quality)


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
        subject: a recipe, which names its model: a YAML file, its content as a dictionary, or a RunConfig; or a
            torch.nn.Module of your own, which is not changed.
        recipe: for a module: how to search it.
        example_inputs: for a module: what its `forward` is traced with, a tensor or a tuple of them with a first axis
            of samples, shaped like `data`; its first calibration sample where None.
        data: for a module: `{"calibration": inputs, "selection": (inputs, labels), ...}`; inputs are an array or tensor
            (samples, ...), or a tuple of them in the order of `forward`.
        quality: `f(model, samples)`, a loss (lower is better) of each sample or of all, for the objective `quality`.
        name: of the run, a directory in `results`; the recipe's file name where None.
        calibration, selection, test: a file, or documents, to use in place of the recipe's data sources.
        changes: other keys of the recipe to set, as `{"search.evals": 200, "limits": ["params<=60%"]}`.
        quiet: no progress on stderr.

    Raises SparseSearchError before anything long starts where something is wrong.
    """
    from sparsesearch.calibration import given_samples
    from sparsesearch.engine import controller
    from sparsesearch.engine.launch import prepare
    from sparsesearch.engine.progress import Reporter
    from sparsesearch.export.latency import is_here, measure_finalists
    from sparsesearch.report.html import write_report

    texts = {r: t for r, t in (("calibration", calibration), ("selection", selection), ("test", test)) if t is not None}
    given: dict[str, Any] = {role: given_samples(role, arrays) for role, arrays in (data or {}).items()}
    given |= {role: text for role, text in texts.items() if not isinstance(text, (str, Path))}
    module, recipe = _told(subject, recipe)
    example = given_samples("example", example_inputs).inputs_on_cpu() if example_inputs is not None else []
    tree = _config(recipe).model_dump()
    for role in {**texts, **given}:
        source = PYTHON_SOURCE if role in given else str(texts[role])
        tree["data"][role] = {**(tree["data"][role] or tree["data"]["selection"]), "source": source}
    for key, value in (changes or {}).items():
        override(tree, key, value)
    default = Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"
    reporter = Reporter(quiet)
    launch = prepare(
        validate(tree, "recipe"), given, module=module, example=example, quality=quality, reporter=reporter
    )
    found = controller.start(launch, Path(results).resolve() / (name or default), reporter)
    if is_here(found):
        measure_finalists(found, reporter, module)
    write_report(found)
    return Run(found, module, quality)


def _told(subject: Any, recipe: Recipe | None) -> tuple[Any, Recipe]:
    """The module, where one is given, and the recipe; raises InputError SS101 for anything else."""
    from torch import nn

    if recipe is None and isinstance(subject, (str, Path, dict, RunConfig)):
        return None, subject
    if recipe is not None and isinstance(subject, nn.Module):
        return subject, recipe
    given = type(subject).__name__ + (", recipe" if recipe is not None else "")
    raise InputError("SS101", f"search({given}) is not understood.", "Call search(recipe) or search(module, recipe).")


def _config(recipe: Recipe) -> RunConfig:
    if isinstance(recipe, RunConfig):
        return recipe
    return validate(recipe, "recipe") if isinstance(recipe, dict) else load_config(Path(recipe))
