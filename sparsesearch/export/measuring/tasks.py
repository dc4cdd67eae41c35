"""Tasks of lm-eval on live models, and what each model lost on each task against the dense one that it came from."""

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
import torch
import transformers

from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.errors import SparseSearchError, did_you_mean, first_line, problem
from sparsesearch.export.measuring.evaluated_model import Place, Target, locate
from sparsesearch.models import load_tokenizer

# Of few-shot examples and of generation, as lm-eval sets it.
SEED = 1234
# Resamples behind the standard errors of what is no mean over documents.
RESAMPLES = 200
# What a metric of a task is called where its answers were filtered in no way.
NO_FILTER = "none"


def check_tasks(names: Sequence[str], include: Path | None) -> dict[str, Any]:
    """The named tasks, groups and tags of lm-eval, with their documents.

    Args:
        include: a directory with task files of one's own.

    Raises EnvironmentProblem SS307 (no lm-eval), InputError SS102 (unknown task), SS204 (its documents cannot be had),
    SS504 (it runs code of models, or is about images).
    """
    if importlib.util.find_spec("lm_eval") is None:
        raise problem("SS307", "--tasks needs lm-eval.", fix="pip install 'sparsesearch[eval]'")
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    folder = None if include is None else str(include.resolve())
    # Reading the thousands of tasks that come with it takes a while, and is of no use where own ones are meant.
    manager = TaskManager(include_path=folder, include_defaults=False) if folder else None
    if manager is None or not _is_complete(manager, names):
        manager = TaskManager(include_path=folder)
        for name in names:
            if name not in manager.task_index:
                near = did_you_mean(name, manager.task_index)
                raise problem("SS102", f"--tasks: {name!r} is no task of lm-eval.", fix=f"{near} {_SEE}".lstrip())
    try:
        loaded: dict[str, Any] = manager.load(list(names))
    except Exception as error:  # whatever task files, data sets and the network raise
        raise _unavailable(names, error) from None
    for name, task in loaded["tasks"].items():
        if getattr(task, "UNSAFE_CODE", False) or getattr(task, "MULTIMODAL", False):
            what = "runs code that models wrote" if getattr(task, "UNSAFE_CODE", False) else "shows models images"
            raise problem("SS504", f"--tasks: {name} {what}, which evaluate does not do.", fix="Leave it out.")
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=SEED)
    return loaded


_SEE = "See: lm-eval ls tasks; your own: --include-path DIR."


def _is_complete(manager: Any, names: Sequence[str]) -> bool:
    """Whether a manager has all tasks that the names stand for."""
    if not all(name in manager.task_index for name in names):
        return False
    with contextlib.suppress(Exception):  # a group of tasks that come with lm-eval
        manager.load(list(names))
        return True
    return False


def _unavailable(names: Sequence[str], error: Exception) -> SparseSearchError:
    return problem(
        "SS204",
        f"--tasks {','.join(names)} cannot be loaded: {type(error).__name__}: {first_line(error)}.",
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
    """What models reach on tasks, with the dense ones that they came from beside them.

    Args:
        targets: as for `locate`.
        limit: documents of each task; all where None.
        note: is told what is going on.
        access: to the runs of candidates.

    Returns:
        `{limit, metrics: {TASK: {METRIC: higher is better}}, groups: {GROUP: [TASK]}, models: [MODEL]}` where MODEL is
        `{target, dense, params, nonzeros, tasks: {TASK: {METRIC: {value, stderr, loss, loss_stderr}}}}`; groups are
        among the tasks. `dense` is the index of its dense model in `models`, or null. `loss` is how much worse than
        dense it is, in the metric's own unit, whether that rises or falls; its standard error is of paired differences.

    Raises InputError SS504 where a target is no causal language model, and as `check_tasks` and `locate` do.
    """
    places = [locate(target, access) for target in targets]
    for place in places:
        if place.task.name != "causal":
            raise problem("SS504", f"{place.name} is no causal language model; --tasks is for those.")
        if place.graph:
            raise problem("SS504", f"{place.name} is a graph; --tasks needs a live model.", fix="Name the candidate.")
    note(f"reading {', '.join(names)}")
    loaded = check_tasks(names, include)
    models, origin = with_dense(places, note)
    reports: list[dict[str, Any]] = []
    raw: list[dict[str, Any]] = []
    for index, place in enumerate(models):
        note(f"{place.name} ({index + 1} of {len(models)})")
        target = place.load()
        found = _run(target, loaded, limit, batch)
        base = origin[index]
        tasks = _values(found, None if base is None else raw[base], loaded["tasks"])
        reports.append({"target": place.name, "dense": base} | target.report() | {"tasks": tasks})
        raw.append(found)
    higher = {name: found for name, found in raw[0]["higher_is_better"].items() if name in reports[0]["tasks"]}
    groups = {g: _leaves(g, raw[0]) for g in raw[0].get("groups", {})}
    return {"limit": limit, "metrics": higher, "groups": groups, "models": reports}


def with_dense(places: Sequence[Place], note: Callable[[str], None]) -> tuple[list[Place], list[int | None]]:
    """Dense models first, each once, then what was asked for; and for each of them all the index of its dense model."""
    models: list[Place] = []
    known: dict[str, int | None] = {}
    for place in places:
        if place.dense is None or place.dense.weights in known:
            continue
        dense = place.dense.locate()
        known[place.dense.weights] = len(models) if dense else None
        if dense:
            models.append(dense)
        else:
            note(f"{place.name}: its dense model {place.dense.model.id} is gone or changed; no differences to it.")
    origin = [known[place.dense.weights] if place.dense else None for place in places]
    return [*models, *places], [*(None for _ in models), *origin]


def _run(target: Target, loaded: dict[str, Any], limit: int | None, batch: int) -> dict[str, Any]:
    """What lm-eval reports of a live model."""
    from lm_eval import evaluate
    from lm_eval.models.huggingface import HFLM

    assert target.directory is not None
    transformers.set_seed(SEED)
    model = target.model.to("cuda" if torch.cuda.is_available() else "cpu")
    live = HFLM(pretrained=model, tokenizer=load_tokenizer(target.directory), batch_size=batch)
    # Its bars are for terminals.
    with contextlib.nullcontext() if sys.stderr.isatty() else contextlib.redirect_stderr(io.StringIO()):
        found: dict[str, Any] = evaluate(live, loaded, limit=limit, bootstrap_iters=RESAMPLES, log_samples=True)
    return found


def _values(found: dict[str, Any], dense: dict[str, Any] | None, tasks: dict[str, Any]) -> dict[str, Any]:
    """Metrics of each task and group."""
    return {
        name: {
            _name(key): _metric(name, key, found, dense, tasks)
            for key, value in measured.items()
            if "," in key and "_stderr," not in key and isinstance(value, (int, float, np.number))
        }
        for name, measured in found["results"].items()
    }


def _name(key: str) -> str:
    """A metric of lm-eval, with its filter where it has one."""
    metric, _, name = key.partition(",")
    return metric if name == NO_FILTER else f"{metric} ({name})"


def _metric(
    name: str, key: str, found: dict[str, Any], dense: dict[str, Any] | None, tasks: dict[str, Any]
) -> dict[str, float | None]:
    metric, _, filtered = key.partition(",")
    value, stderr = float(found["results"][name][key]), found["results"][name].get(f"{metric}_stderr,{filtered}")
    report = {"value": value, "stderr": float(stderr) if isinstance(stderr, (int, float, np.number)) else None}
    higher = found["higher_is_better"].get(name, {}).get(metric)
    if dense is None or higher is None:
        return report
    before = float(dense["results"][name][key])
    error = loss_stderr(name, metric, filtered, found, dense, tasks)
    return report | {"loss": before - value if higher else value - before, "loss_stderr": error}


def loss_stderr(
    name: str, metric: str, filtered: str, found: dict[str, Any], dense: dict[str, Any], tasks: dict[str, Any]
) -> float | None:
    """The standard error of a difference between two models on the same documents; None where it cannot be told.

    Of a mean it is that of the mean of paired differences, of other metrics one of paired resamples of documents, of
    a group what lm-eval pools from those of its tasks.
    """
    from lm_eval.api.metrics import mean, pooled_sample_stderr

    if name not in tasks:
        leaves = [leaf for leaf in _leaves(name, found) if metric in found["higher_is_better"].get(leaf, {})]
        errors = [loss_stderr(leaf, metric, filtered, found, dense, tasks) for leaf in leaves]
        known = [e for e in errors if e is not None]
        sizes = [len(_of_documents(leaf, metric, filtered, found)) for leaf in leaves]
        return float(pooled_sample_stderr(known, sizes)) if known and len(known) == len(errors) else None
    own, other = (_of_documents(name, metric, filtered, side) for side in (found, dense))
    count = len(own)
    if count < 2 or count != len(other):
        return None
    aggregate = tasks[name].aggregation()[metric]
    if aggregate is mean:
        return float(np.std(np.subtract(own, other, dtype=float), ddof=1) / np.sqrt(count))
    draws = np.random.default_rng(SEED).integers(count, size=(RESAMPLES, count))
    differences = [aggregate([own[i] for i in draw]) - aggregate([other[i] for i in draw]) for draw in draws]
    return float(np.std(differences, ddof=1))


def _of_documents(name: str, metric: str, filtered: str, found: dict[str, Any]) -> list[Any]:
    """What a metric is made of, a value a document, in the order of the documents."""
    samples = [s for s in found["samples"][name] if s["filter"] == filtered and metric in s]
    return [s[metric] for s in sorted(samples, key=lambda s: s["doc_id"])]


def _leaves(group: str, found: dict[str, Any]) -> list[str]:
    """The tasks of a group, and of the groups in it."""
    members = found["group_subtasks"].get(group, [])
    return [leaf for member in members for leaf in (_leaves(member, found) or [member])]
