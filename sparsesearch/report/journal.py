"""A run as an Optuna study in a journal file, which `optuna-dashboard FILE` opens; a view, made anew each time."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from sparsesearch.engine.results import RunResults


def write_journal(results: RunResults) -> Path:
    """Write `optuna.journal` into the run: a trial for every measured candidate within the limits.

    Parameters are the levels of all units, values the objectives, user attributes the id, origin and sequences.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path, space = results.run.path / "optuna.journal", results.space
    path.unlink(missing_ok=True)
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=results.run.path.name,
        directions=["minimize"] * len(results.objectives),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names(results.objectives)
    levels: dict[str, Any] = {
        unit.name: optuna.distributions.IntDistribution(0, int(top))
        for unit, top in zip(space.units, space.max_levels, strict=True)
    }
    inside = [e for e in results.evaluations if e.status == "ok" and space.feasible(e.genome)]
    study.add_trials(
        optuna.create_trial(
            params={unit.name: int(level) for unit, level in zip(space.units, e.genome.levels, strict=True)},
            distributions=levels,
            values=results.point(e),
            user_attrs={"id": e.genome.id, "origin": e.origin, "sequences": e.sequences},
        )
        for e in inside
    )
    return path
