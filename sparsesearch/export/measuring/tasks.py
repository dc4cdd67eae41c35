"""Tasks of lm-eval on loaded models, and the loss of each model on each task against its dense model."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import transformers

from sparsesearch.devices import accelerator
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.errors import SparseSearchError, did_you_mean, first_line, problem
from sparsesearch.export.measuring.evaluated_model import LocatedTarget, Target, locate
from sparsesearch.models import load_tokenizer

# Seed of few-shot examples and of generation, as in lm-eval.
SEED = 1234
# Number of resamples for standard errors of metrics that are no means over documents.
RESAMPLES = 200
# lm-eval's name of a filter that does nothing.
NO_FILTER = "none"


def check_tasks(names: Sequence[str], include: Path | None) -> dict[str, Any]:
    """Load tasks, groups and tags of lm-eval by name, with their documents.

    Args:
        include: a directory with the user's task files.

    Raises EnvironmentProblem SS307 (no lm-eval), InputError SS102 (unknown task), SS204 (documents cannot be loaded),
    SS504 (a task runs code that models wrote, or shows images).
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise problem("SS307", "tasks (--tasks) need lm-eval.", fix="pip install 'sparsesearch[eval]'")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = None if include is None else str(include.resolve())
    # Reading lm-eval's thousands of task files takes a while; the user's tasks may not need them.
    manager = TaskManager(include_path=folder, include_defaults=False) if folder else None
    if manager is None or not _is_complete(manager, names):
        manager = TaskManager(include_path=folder)
        for name in names:
            if name not in manager.task_index:
                near = did_you_mean(name, manager.task_index)
                raise problem("SS102", f"tasks: {name!r} is no task of lm-eval.", fix=f"{near} {_SEE}".lstrip())
    try:
        loaded: dict[str, Any] = manager.load(list(names))
    except Exception as error:  # whatever task files, data sets and the network raise
        raise _unavailable(names, error) from None
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            reason = "runs code that models wrote" if getattr(task, "UNSAFE_CODE", False) else "shows models images"
            raise problem("SS504", f"tasks: {name} {reason}, which evaluate does not do.", fix="Leave it out.")
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
    return loaded


_SEE = "See: lm-eval ls tasks; task files of your own: include_path (--include-path DIR)."


def _is_complete(manager: Any, names: Sequence[str]) -> bool:
    """Return whether a manager knows all the tasks."""
    if not all(name in manager.task_index for name in names):
        return False
    with contextlib.suppress(Exception):  # a group of tasks that come with lm-eval
        manager.load(list(names))
        return True
    return False


def _unavailable(names: Sequence[str], error: Exception) -> SparseSearchError:
    return problem(
        "SS204",
        f"tasks {','.join(names)} cannot be loaded: {type(error).__name__}: {first_line(error)}.",
        fix="Their documents come from the Hugging Face hub on first use.",
    )


def evaluate_tasks(
    targets: Sequence[str],
    names: Sequence[str],
    limit: int | None = None,
    include: Path | None = None,
    batch: int = 8,
    note: Callable[[str], None] = lambda text: None,
    access: Access = UNTRUSTED,
) -> dict[str, Any]:
    """Measure models and their dense models on tasks.

    Args:
        targets: as for `locate`.
        limit: number of documents of each task; None: all.
        note: receives lines about progress.
        access: which code the runs of candidates may name.

    Returns:
        `{limit, metrics: {TASK: {METRIC: higher is better}}, groups: {GROUP: [TASK]}, models: [MODEL]}` where MODEL is
        `{target, dense, params, nonzeros, tasks: {TASK: {METRIC: {value, stderr, loss, loss_stderr}}}}`; groups are
        among the tasks. `dense` is the index of the dense model in `models`, or null. `loss` is the difference to dense
        in the metric's unit, positive if the model is worse; its standard error is that of paired differences.

    Raises InputError SS504 if a target is no causal language model, and as `check_tasks` and `locate` do.
    """
    located_targets = [locate(target, access) for target in targets]
    for located in located_targets:
        if located.task.name != "causal":
            raise problem("SS504", f"{located.name} is no causal language model; --tasks is for those.")
        if located.graph:
            raise problem(
                "SS504", f"{located.name} is a graph; tasks (--tasks) need a live model.", fix="Name the candidate."
            )
    note(f"reading {', '.join(names)}")
    loaded = check_tasks(names, include)
    models, origin = with_dense(located_targets, note)
    reports: list[dict[str, Any]] = []
    raw: list[dict[str, Any]] = []
    for index, located in enumerate(models):
        note(f"{located.name} ({index + 1} of {len(models)})")
        target = located.load()
        outcome = _run(target, loaded, limit, batch)
        base = origin[index]
        tasks = _values(outcome, None if base is None else raw[base], loaded["tasks"])
        reports.append({"target": located.name, "dense": base} | target.report() | {"tasks": tasks})
        raw.append(outcome)
    higher = {name: metrics for name, metrics in raw[0]["higher_is_better"].items() if name in reports[0]["tasks"]}
    groups = {g: _leaves(g, raw[0]) for g in raw[0].get("groups", {})}
    return {"limit": limit, "metrics": higher, "groups": groups, "models": reports}


def with_dense(
    located_targets: Sequence[LocatedTarget], note: Callable[[str], None]
) -> tuple[list[LocatedTarget], list[int | None]]:
    """Return the dense models, each once, followed by the targets, and for each of these its dense model's index."""
    models: list[LocatedTarget] = []
    known: dict[str, int | None] = {}
    for located in located_targets:
        if located.dense is None or located.dense.weights in known:
            continue
        dense = located.dense.locate()
        known[located.dense.weights] = len(models) if dense else None
        if dense:
            models.append(dense)
        else:
            note(f"{located.name}: its dense model {located.dense.model.id} is missing or has changed: no losses.")
    origin = [known[located.dense.weights] if located.dense else None for located in located_targets]
    return [*models, *located_targets], [*(None for _ in models), *origin]


def _run(target: Target, loaded: dict[str, Any], limit: int | None, batch: int) -> dict[str, Any]:
    """Return lm-eval's results for a loaded model."""
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    assert target.directory is not None
    transformers.set_seed(SEED)
    model = target.model.to(accelerator() or "cpu")
    live = HFLM(pretrained=model, tokenizer=load_tokenizer(target.directory), batch_size=batch)
    # lm-eval's progress bars are for terminals.
    with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        outcome: dict[str, Any] = evaluate(live, loaded, limit=limit, bootstrap_iters=RESAMPLES, log_samples=True)
    return outcome


def _values(outcome: dict[str, Any], dense: dict[str, Any] | None, tasks: dict[str, Any]) -> dict[str, Any]:
    """Return the metrics of each task and group."""
    return {
        name: {
            _name(key): _metric(name, key, outcome, dense, tasks)
            for key, value in measured.items()
            if "," in key and "_stderr," not in key and isinstance(value, (int, float, np.number))
        }
        for name, measured in outcome["results"].items()
    }


def _name(key: str) -> str:
    """Return the name of a metric, with its filter if it has one."""
    metric, _, name = key.partition(",")
    return metric if name == NO_FILTER else f"{metric} ({name})"


def _metric(
    name: str, key: str, outcome: dict[str, Any], dense: dict[str, Any] | None, tasks: dict[str, Any]
) -> dict[str, float | None]:
    metric, _, filtered = key.partition(",")
    value, stderr = float(outcome["results"][name][key]), outcome["results"][name].get(f"{metric}_stderr,{filtered}")
    report = {"value": value, "stderr": float(stderr) if isinstance(stderr, (int, float, np.number)) else None}
    higher = outcome["higher_is_better"].get(name, {}).get(metric)
    if dense is None or higher is None:
        return report
    before = float(dense["results"][name][key])
    error = loss_stderr(name, metric, filtered, outcome, dense, tasks)
    return report | {"loss": before - value if higher else value - before, "loss_stderr": error}


def loss_stderr(
    name: str, metric: str, filtered: str, outcome: dict[str, Any], dense: dict[str, Any], tasks: dict[str, Any]
) -> float | None:
    """Return the standard error of a metric's difference between two models on the same documents; None if unknown.

    For a mean it is that of the mean of paired differences, for other metrics one of paired resamples of documents,
    for a group lm-eval's pooled error of its tasks.
    """
    from lm_eval.api.metrics import mean, pooled_sample_stderr

    if name not in tasks:
        leaves = [leaf for leaf in _leaves(name, outcome) if metric in outcome["higher_is_better"].get(leaf, {})]
        errors = [loss_stderr(leaf, metric, filtered, outcome, dense, tasks) for leaf in leaves]
        known = [e for e in errors if e is not None]
        sizes = [len(_values_of_documents(leaf, metric, filtered, outcome)) for leaf in leaves]
        return float(pooled_sample_stderr(known, sizes)) if known and len(known) == len(errors) else None
    values, dense_values = (_values_of_documents(name, metric, filtered, side) for side in (outcome, dense))
    count = len(values)
    if count < 2 or count != len(dense_values):
        return None
    aggregate = tasks[name].aggregation()[metric]
    if aggregate is mean:
        return float(np.std(np.subtract(values, dense_values, dtype=float), ddof=1) / np.sqrt(count))
    draws = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    differences = [aggregate([values[i] for i in draw]) - aggregate([dense_values[i] for i in draw]) for draw in draws]
    return float(np.std(differences, ddof=1))


def _values_of_documents(name: str, metric: str, filtered: str, outcome: dict[str, Any]) -> list[Any]:
    """Return a metric's value on each document, in the order of the documents."""
    samples = [s for s in outcome["samples"][name] if s["filter"] == filtered and metric in s]
    return [s[metric] for s in sorted(samples, key=lambda s: s["doc_id"])]


def _leaves(group: str, outcome: dict[str, Any]) -> list[str]:
    """Return the tasks of a group, and of the groups in it."""
    members = outcome["group_subtasks"].get(group, [])
    return [leaf for member in members for leaf in (_leaves(member, outcome) or [member])]
