"""The Python API: functions and a class `Run` that do what the command line does.

Verbs that search, train, measure or write call it. `front`, `show`, `status`, `list`, `space` and `doctor` read files
and recipes themselves, `space check` and `doctor RUN` with its help. Tasks of lm-eval are in
`api.models.evaluate_tasks`.

import sparsesearch as ss
run = ss.search("search_spaces/quickstart.yaml", name="mine")
best = run.pick("knee")
run.front().to_dataframe()
run.export(best, "smaller-model")
model = ss.load("smaller-model")
"""

from sparsesearch.api.experiments import audit, compare, iterate, report_runs
from sparsesearch.api.front import Front
from sparsesearch.api.models import choose_samples, evaluate, measure_latency
from sparsesearch.api.run import Run
from sparsesearch.api.searches import plan, search

__all__ = [
    "Front",
    "Run",
    "audit",
    "choose_samples",
    "compare",
    "evaluate",
    "iterate",
    "measure_latency",
    "plan",
    "report_runs",
    "search",
]
