"""MLflow: logs to a run of the experiment `sparsesearch`, at MLFLOW_TRACKING_URI or in a database beside the runs."""

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
# Tag of an MLflow run with the path of its run directory.
TAG = "sparsesearch.run"
# Most metrics that MLflow accepts in one call, and most runs that it returns in one.
METRICS_PER_CALL, MAX_RUNS = 1000, 50_000
# Characters that MLflow does not allow in names of metrics.
_FORBIDDEN = re.compile(r"[^\w./ -]", re.ASCII)


class MLflow(Tracker):
    """Logs a run to MLflow; `mlflow ui` shows it."""

    def __init__(self, results: RunResults) -> None:
        path = results.run.path
        uri = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{path.parent}/mlflow.db"
        self._client = MlflowClient(tracking_uri=uri)
        existing = self._client.get_experiment_by_name(EXPERIMENT)
        experiment = (
            existing.experiment_id
            if existing
            else self._client.create_experiment(EXPERIMENT, artifact_location=(path.parent / "mlruns").as_uri())
        )
        for earlier in self._client.search_runs([experiment], max_results=MAX_RUNS):
            if earlier.data.tags.get(TAG) == str(path):
                self._client.delete_run(earlier.info.run_id)
        self._run = self._client.create_run(experiment, run_name=path.name, tags={TAG: str(path)}).info.run_id
        self._client.log_batch(self._run, params=[Param(k, str(v)) for k, v in settings_of(results).items()])
        self.location = f"{uri}, experiment {EXPERIMENT}  (mlflow ui --backend-store-uri {uri})"

    def log(self, points: Sequence[Point]) -> None:
        now = int(time.time() * 1000)
        metrics = [
            Metric(_FORBIDDEN.sub("_", name), value, now, point.step)
            for point in points
            for name, value in point.values.items()
        ]
        for start in range(0, len(metrics), METRICS_PER_CALL):
            self._client.log_batch(self._run, metrics=metrics[start : start + METRICS_PER_CALL])

    def close(self) -> None:
        self._client.set_terminated(self._run)
