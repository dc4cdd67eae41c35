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
from sparsesearch.searchers.base import Evaluation


class Run:
    """A run directory: its front, its picks, and exports of them."""

    def __init__(self, results: RunResults) -> None:
        self.results = results

    @classmethod
    def open(cls, path: str | Path) -> Run:
        """An existing run; raises InputError SS600."""
        return cls(RunResults(Path(path)))

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
        return export(self.results, candidate, Path(out), form)

    def resume(self, evals: int | None = None) -> Run:
        """Go on, to `evals` evaluations in all where given."""
        from sparsesearch.engine import controller
        from sparsesearch.engine.progress import Reporter

        changes = {"search.evals": evals} if evals is not None else {}
        return Run(controller.resume(self.path, changes, Reporter()))


def search(
    recipe: str | Path | dict[str, Any] | RunConfig,
    *,
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
        recipe: a YAML file, its content as a dictionary, or a RunConfig.
        name: of the run, a directory in `results`; the recipe's file name where None.
        calibration, selection, test: a file, or documents, to use in place of the recipe's data sources.
        changes: other keys of the recipe to set, as `{"search.evals": 200, "limits": ["params<=60%"]}`.
        quiet: no progress on stderr.

    Raises SparseSearchError before anything long starts where something is wrong.
    """
    from sparsesearch.engine import controller
    from sparsesearch.engine.launch import prepare
    from sparsesearch.engine.progress import Reporter
    from sparsesearch.report.html import write_report

    given = {r: t for r, t in (("calibration", calibration), ("selection", selection), ("test", test)) if t is not None}
    texts = {role: text for role, text in given.items() if not isinstance(text, (str, Path))}
    tree = _config(recipe).model_dump()
    for role, text in given.items():
        source = PYTHON_SOURCE if role in texts else str(text)
        tree["data"][role] = {**(tree["data"][role] or tree["data"]["selection"]), "source": source}
    for key, value in (changes or {}).items():
        override(tree, key, value)
    config = validate(tree, "recipe")
    default = Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"
    launch = prepare(config, texts)
    found = controller.start(launch, Path(results).resolve() / (name or default), Reporter(quiet))
    write_report(found)
    return Run(found)


def _config(recipe: str | Path | dict[str, Any] | RunConfig) -> RunConfig:
    if isinstance(recipe, RunConfig):
        return recipe
    return validate(recipe, "recipe") if isinstance(recipe, dict) else load_config(Path(recipe))
