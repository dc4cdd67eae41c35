"""MLflow: a run of the experiment `sparsesearch`, at MLFLOW_TRACKING_URI or in a database beside the runs."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from mlflow import MlflowClient
from mlflow.entities import Metric, Param

from sparsesearch.runs.results import RunResults
from sparsesearch.tracking.base import Point, Tracker, settings_of

EXPERIMENT = "sparsesearch"
# Marks the run of MLflow that a run directory has.
TAG = "sparsesearch.run"
# Metrics that MLflow takes at once.
BATCH = 1000
# Runs that it gives at once, at most.
MOST = 50_000
# What names of metrics may not hold.
_UNNAMEABLE = re.compile(r"[^\w./ -]", re.ASCII)


class MLflow(Tracker):
    """`mlflow ui` shows it."""

    def __init__(self, results: RunResults) -> None:
        path = results.run.path
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path.parent}/mlflow.db"
        self._client = MlflowClient(tracking_uri=uri)
        known = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = (
            known.experiment_id
            if known
            else self._client.create_experiment(EXPERIMENT, artifact_location=(path.parent / "mlruns").as_uri())
        )
        for before in self._client.search_runs([experiment], max_results=MOST):
            if before.data.tags.get(TAG) == str(path):
                self._client.delete_run(before.info.run_id)
        self._run = self._client.create_run(experiment, run_name=path.name, tags={TAG: str(path)}).info.run_id
        self._client.log_batch(self._run, params=[Param(k, str(v)) for k, v in settings_of(results).items()])
        self.place = f"{uri}, experiment {EXPERIMENT}  (mlflow ui --backend-store-uri {uri})"

    def log(self, points: Sequence[Point]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            Metric(_UNNAMEABLE.sub("_", name), value, now, point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), BATCH):
            self._client.log_batch(self._run, metrics=metrics[start : start + BATCH])

    def close(self) -> None:
        self._client.set_terminated(self._run)
