"""The front of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from sparsesearch.errors import problem
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers.records import Evaluation


class Front(Sequence[Evaluation]):
    """The non-dominated candidates of a run, smallest first; notebooks show them as a table."""

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
        """The volume that the candidates dominate, up to the run's reference point."""
        return self._results.hypervolume()

    def to_dataframe(self) -> Any:
        """Return a pandas DataFrame with a row for each candidate, by id: quality, costs, origin, tokens, picks."""
        import pandas as pd

        results, picks = self._results, self._results.picks()
        rows = [
            {"id": e.genome.id}
            | results.values(e)
            | {"origin": e.origin, "trained": e.trained}
            | {"pick": ", ".join(rule for rule, candidate in picks.items() if candidate.genome == e.genome)}
            for e in self
        ]
        columns = ["id", results.quality, *results.space.dense_costs, "origin", "trained", "pick"]
        return pd.DataFrame(rows, columns=columns).set_index("id")

    def plot(self, cost: str | None = None) -> Any:
        """Return a plotly figure of quality against a cost, for all measured candidates.

        Args:
            cost: name of a cost; the second objective if None.

        Raises InputError SS102 for an unknown cost.
        """
        from sparsesearch.report.pages.figures import front_figure

        results = self._results
        if cost is not None and cost not in results.space.dense_costs:
            costs = results.space.dense_costs
            raise problem("SS102", f"plot({cost!r}): not a cost.", got=cost, allowed=costs)
        return front_figure(results, cost or results.objectives[1])
