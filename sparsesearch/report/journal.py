"""Writes a run as an Optuna study into a journal file, which `optuna-dashboard FILE` opens; rewritten each time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from sparsesearch.runs.results import RunResults


class Mirror:
    """The `optuna.journal` of a run, with a trial for every measured candidate within the limits.

    Parameters are the levels of all units, values the objectives, user attributes the id, origin and sequences.
    """

    def __init__(self, results: RunResults) -> None:
        """Start a new file with the run's evaluations so far."""
        import optuna
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self.path = results.run.path / "optuna.journal"
        self.path.unlink(missing_ok=True)
        self.storage = JournalStorage(JournalFileBackend(str(self.path)))
        self._study = optuna.create_study(
            storage=self.storage,
            study_name=results.run.path.name,
            directions=["minimize"] * len(results.objectives),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self._study.set_metric_names(results.objectives)
        self._levels: dict[str, Any] = {
            unit.name: optuna.distributions.IntDistribution(0, int(top))
            for unit, top in zip(results.space.units, results.space.max_levels, strict=True)
        }
        self._written = 0
        self.update(results)

    def update(self, results: RunResults) -> None:
        """Add the evaluations that the run made since the last update."""
        import optuna

        space = results.space
        new, self._written = results.evaluations[self._written :], len(results.evaluations)
        feasible = [e for e in new if e.status == "ok" and space.feasible(e.genome)]
        self._study.add_trials(
            optuna.create_trial(
                params={unit.name: int(level) for unit, level in zip(space.units, e.genome.levels, strict=True)},
                distributions=self._levels,
                values=results.point(e),
                user_attrs={"id": e.genome.id, "origin": e.origin, "sequences": e.sequences},
            )
            for e in feasible
        )


def write_journal(results: RunResults) -> Path:
    """Write `optuna.journal` into the run."""
    return Mirror(results).path
