"""The Python door: as short as the command line.

import sparsesearch as ss
run = ss.search("search_spaces/quickstart.yaml", name="mine")
best = run.pick("knee")
run.front().to_dataframe()
run.export(best, "smaller-model")
model = ss.load("smaller-model")
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, overload

from sparsesearch.config import PYTHON_SOURCE, RunConfig, load_config, override, validate
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.errors import problem
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers.base import Evaluation


class Front(Sequence[Evaluation]):
    """The best trade-offs of a run, smallest first; notebooks show it as a table."""

    def __init__(self, results: RunResults) -> None:
        self._results, self._candidates = results, tuple(results.front)

    @overload
    def __getitem__(self, index: int) -> Evaluation: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Evaluation, ...]: ...
    def __getitem__(self, index: int | slice) -> Evaluation | tuple[Evaluation, ...]:
        return self._candidates[index]

    def __len__(self) -> int:
        return len(self._candidates)

    def __repr__(self) -> str:
        return f"Front({len(self)} candidates of {self._results.run.path})"

    def _repr_html_(self) -> str:
        from sparsesearch.report.pages.notebook import front_html

        return front_html(self._results, self)

    @property
    def hypervolume(self) -> float:
        """What the candidates dominate, up to the run's reference point."""
        return self._results.hypervolume()

    def to_dataframe(self) -> Any:
        """A pandas DataFrame: a row for each candidate by its id, with quality, costs, origin, and what picks it."""
        import pandas as pd

        results, picks = self._results, self._results.picks()
        rows = [
            {"id": e.genome.id}
            | results.values(e)
            | {"origin": e.origin, "trained": e.trained}
            | {"pick": ", ".join(rule for rule, picked in picks.items() if picked.genome == e.genome)}
            for e in self
        ]
        columns = ["id", results.quality, *results.space.dense_costs, "origin", "trained", "pick"]
        return pd.DataFrame(rows, columns=columns).set_index("id")

    def plot(self, cost: str | None = None) -> Any:
        """A plotly figure: quality against a cost, the second objective by default, of all that was measured.

        Raises InputError SS102 for a cost that there is not.
        """
        from sparsesearch.report.pages.figures import front_figure

        results = self._results
        if cost is not None and cost not in results.space.dense_costs:
            known = results.space.dense_costs
            raise problem("SS102", f"plot({cost!r}).", got=cost, allowed=known)
        return front_figure(results, cost or results.objectives[1])


class Run:
    """A run directory: its front, its picks, and exports of them; notebooks show the front as a figure and a table."""

    def __init__(self, results: RunResults, access: Access = UNTRUSTED) -> None:
        """
        Args:
            access: what the run directory cannot say.
        """
        self.results, self.access = results, access

    @classmethod
    def open(
        cls,
        path: str | Path,
        module: Any = None,
        quality: Any = None,
        model: str | Path | None = None,
        trust_remote_code: bool = False,
    ) -> Run:
        """An existing run; raises InputError SS600.

        Args:
            module, quality: for a run on a module, or with a quality, of your own: the same again.
            model: where the run's model lies by now, if it was moved.
            trust_remote_code: run code that the run directory names (plug-ins, a factory, code beside a model) where
                that is needed: to export and to resume.
        """
        return cls(
            RunResults(Path(path)), Access(module, quality, None if model is None else str(model), trust_remote_code)
        )

    @property
    def path(self) -> Path:
        return self.results.run.path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self.results.evaluations)} evaluations)"

    def _repr_html_(self) -> str:
        from sparsesearch.report.pages.notebook import run_html

        return run_html(self.results)

    def front(self) -> Front:
        """Non-dominated candidates within every limit, measured on all selection data, smallest first."""
        return Front(self.results)

    def pick(self, rule: str = "knee") -> Evaluation:
        """One of the front: `knee`, `min:kl`, `max-under:params=60%`, `weights:kl=.7,params=.3`."""
        return self.results.pick(rule)

    def export(self, candidate: Evaluation, out: str | Path, form: str = "auto") -> dict[str, Any]:
        """Write a candidate as a model and verify it in a fresh process (`sparsesearch.export.export`)."""
        from transformers.utils import logging

        from sparsesearch.export import export

        logging.disable_progress_bar()
        return export(self.results, candidate, Path(out), form, self.access)

    def resume(self, evals: int | None = None) -> Run:
        """Go on, to `evals` evaluations in all where given."""
        from sparsesearch.engine import controller
        from sparsesearch.runs.progress import Reporter

        changes = {"search.evals": evals} if evals is not None else {}
        return Run(controller.resume(self.path, changes, Reporter(), self.access), self.access)


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
    from sparsesearch.data.python_inputs import inputs_of_forward, samples_by_role, samples_from_arrays
    from sparsesearch.engine import controller
    from sparsesearch.engine.launch.prepare import prepare
    from sparsesearch.export.measuring.finalists import is_here, measure_finalists
    from sparsesearch.report.pages.run_page import write_report
    from sparsesearch.runs.progress import Reporter

    texts = {r: t for r, t in (("calibration", calibration), ("selection", selection), ("test", test)) if t is not None}
    module, recipe = _told(subject, recipe)
    if module is None and (data is not None or example_inputs is not None):
        raise problem("SS101", "search: data= and example_inputs= are for a module.", fix=_TEXTS)
    example = []
    if example_inputs is not None:
        example = samples_from_arrays("example", example_inputs, _as_many(example_inputs)).inputs_on_cpu()
    takes = _as_many(example) if example else inputs_of_forward(module) if module is not None else range(1)
    given: dict[str, Any] = dict(samples_by_role({} if data is None else data, takes))
    given |= {role: text for role, text in texts.items() if not isinstance(text, (str, Path))}
    sources = {role: str(text) for role, text in texts.items()} | dict.fromkeys(given, PYTHON_SOURCE)
    config = _changed(_config(recipe), sources, changes or {})
    default = Path(recipe).stem if isinstance(recipe, (str, Path)) else "run"
    reporter = Reporter(quiet)
    launch = prepare(config, given, module=module, example=example, quality=quality, reporter=reporter)
    found = controller.start(launch, Path(results).resolve() / (name or default), reporter)
    access = Access(module, quality, trusted=True)
    if is_here(found):
        measure_finalists(found, reporter, access)
    write_report(found)
    return Run(found, access)


_TEXTS = "For a recipe's model give calibration=, selection= and test=."


def _changed(config: RunConfig, sources: dict[str, str], changes: dict[str, Any]) -> RunConfig:
    """A recipe with other data sources by role, a missing role read as `selection` is, and other keys."""
    tree = config.model_dump()
    for role, source in sources.items():
        tree["data"][role] = {**(tree["data"][role] or tree["data"]["selection"]), "source": source}
    for key, value in changes.items():
        override(tree, key, value)
    return validate(tree, "recipe")


def _as_many(inputs: Any) -> range:
    count = len(inputs) if isinstance(inputs, (tuple, list)) else 1
    return range(count, count + 1)


def _told(subject: Any, recipe: Recipe | None) -> tuple[Any, Recipe]:
    """The module, where one is given, and the recipe; raises InputError SS101 for anything else."""
    from torch import nn

    if recipe is None and isinstance(subject, (str, Path, dict, RunConfig)):
        return None, subject
    if recipe is not None and isinstance(subject, nn.Module):
        return subject, recipe
    given = type(subject).__name__ + (", recipe" if recipe is not None else "")
    raise problem("SS101", f"search({given}) is not understood.", fix="Call search(recipe) or search(module, recipe).")


def _config(recipe: Recipe) -> RunConfig:
    if isinstance(recipe, RunConfig):
        return recipe
    return validate(recipe, "recipe") if isinstance(recipe, dict) else load_config(Path(recipe))
