"""Training candidates of a finished run, or several copies of each that are averaged into a soup."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sparsesearch.config import RunConfig, load_config
from sparsesearch.data import samples_of
from sparsesearch.engine.job import Job, open_job
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.launch.checks import check_disjoint, check_quality, check_training
from sparsesearch.engine.launch.numerics import worker_device
from sparsesearch.engine.phases.stores import check_teacher
from sparsesearch.engine.phases.trials import train_all
from sparsesearch.engine.reopen import ReopenedRun, open_run
from sparsesearch.engine.workers.call_results import Trained
from sparsesearch.engine.workers.local import LocalExecutor
from sparsesearch.engine.workers.setup import WorkerSetup
from sparsesearch.engine.workers.trial import Trial
from sparsesearch.engine.workers.worker import Worker
from sparsesearch.errors import problem
from sparsesearch.evaluation.evaluator import quality_of
from sparsesearch.files import write_text
from sparsesearch.runs.directory import check_vacant
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.tensors import read_tensors, write_tensors
from sparsesearch.training import greedy_soup
from sparsesearch.training.trainer import RETRAIN, round_to_storage, weights_path

# Parts of a recipe that its recovery may change.
CHANGEABLE = ("training", "data.training", "data.allow_shared")
# File beside the models of a front, with the options of their training.
MANIFEST = "recovery.json"


@dataclass(frozen=True)
class Recovery:
    """A reopened run whose candidates are to be trained.

    Attributes:
        fingerprint: everything that the trained weights depend on, except the candidate and the seed of its copy.
        tokens: training tokens of each copy.
        copies: number of copies of each candidate, with different seeds, averaged greedily.
    """

    reopened: ReopenedRun
    fingerprint: dict[str, Any]
    tokens: int
    copies: int


@dataclass(frozen=True)
class Recovered:
    """A candidate after training.

    Attributes:
        candidate: the candidate before training.
        quality: quality after training, on the same data.
        weights: safetensors file of the trained weights.
        tokens: training tokens, all copies together.
        copies: number of copies in the soup.
    """

    candidate: Evaluation
    quality: float
    weights: Path
    tokens: int
    copies: int = 1

    @property
    def after(self) -> Evaluation:
        """The candidate with its quality and tokens after training."""
        return replace(self.candidate, quality=self.quality, trained=self.candidate.trained + self.tokens)


def training_data(results: RunResults, source: str, tokens: int) -> dict[str, Any]:
    """Return `data.training` of a run with another source: enough samples for `tokens`, or all if there are fewer."""
    data = load_config(results.run.config).data
    options = data.training or data.calibration
    count = math.ceil(tokens / results.info["length"])
    return options.model_dump() | {"source": source, "sequences": count, "fewer": True}


def prepare_recovery(
    results: RunResults, changes: dict[str, Any], tokens: int, copies: int = 1, access: Access = UNTRUSTED
) -> Recovery:
    """Open a run to train its candidates with other options or data of training.

    Raises InputError if candidates cannot be trained so, SS602 if something else would change too, SS505 if the run's
    level store or teacher cache is gone.
    """
    run = results.run
    before, config = access.config(run), access.config(run, changes)
    if others := _changed_parts(before, config):
        raise problem(
            "SS602",
            f"{run.path}: {', '.join(others)} would change, and with it the network or space.",
            fix="Change only training, data.training and executor.",
        )
    if copies > 1 and config.training.method == "compensate":
        raise problem(
            "SS117",
            "copies (--soup) need a training.method by gradient: with 'compensate' all copies are identical.",
            fix="Leave copies (--soup) out.",
        )
    reopened = open_run(results, access, config)
    launch = reopened.launch
    if config.data.training is not None and config.data.training != before.data.training:
        samples = samples_of(config.data.training, launch.source.task, launch.source.directory, "training")
        launch = replace(launch, samples={**launch.samples, "training": samples})
        if not config.data.allow_shared:
            check_disjoint(launch.samples)
        reopened = replace(reopened, launch=launch)
    check_quality(config, launch.source.task, access.quality)
    check_training(config, launch.network, launch.space, launch.samples, tokens)
    if not (Path(reopened.setup.teacher_cache) / "complete").exists():
        raise problem(
            "SS505",
            f"{reopened.setup.teacher_cache}, which the run needs, is gone.",
            fix=f"'sparsesearch resume {run.path}' rebuilds it.",
        )
    check_teacher(Path(reopened.setup.teacher_cache))
    training = {"training": config.training.model_dump(), "search.rungs": [{"tokens": tokens, "candidates": 1}]}
    data = {f"data.{role}": role_samples.digest for role, role_samples in launch.samples.items()}
    return Recovery(reopened, results.info["fingerprint"] | data | training, tokens, copies)


def _changed_parts(before: RunConfig, after: RunConfig) -> list[str]:
    """Return the parts of a recipe that differ, without those that a recovery may change."""
    names = []
    old, new = before.model_dump(), after.model_dump()
    for section, value in old.items():
        if section == "data":
            names += [f"data.{key}" for key in value if value[key] != new["data"][key]]
        elif section == "executor":
            # Threads and device of an executor decide the last bits of every number.
            if before.executor.threads != after.executor.threads:
                names.append("executor.threads")
            if worker_device(before.executor) != worker_device(after.executor):
                names.append("executor.device")
        elif value != new[section]:
            names.append(section)
    return [name for name in names if name not in CHANGEABLE]


def write_recovery_manifest(out: Path, recovery: Recovery, form: str) -> None:
    """Write the options of training beside the models; models of an earlier call with equal options may exist.

    Raises InputError SS500 if the directory holds other files, or models that were trained with other options.
    """
    manifest = {
        "fingerprint": recovery.fingerprint,
        "training": recovery.fingerprint["training"],
        "tokens": recovery.tokens,
        "soup": recovery.copies,
        "form": form,
    }
    path, text = out / MANIFEST, json.dumps(manifest, indent=1)
    if not path.exists():
        check_vacant(out)
        write_text(path, text)
    elif path.read_text() != text:
        raise problem(
            "SS500",
            f"{out} holds models that were trained with other options.",
            fix="Choose another directory (--out).",
        )


def recover(recovery: Recovery, candidates: Sequence[Evaluation], reporter: Reporter) -> list[Recovered]:
    """Train candidates, all on the same data; finished trainings are read, and candidates that diverge are left out.

    Raises SparseSearchError SS408 if training of all diverged.
    """
    reopened = recovery.reopened
    launch, options = reopened.launch, reopened.launch.config.training
    with open_job(launch, reopened.results.run, reporter, keep_progress=False) as job:
        copies: list[list[Trial]] = []
        for copy in range(recovery.copies):
            seeded = options.model_copy(update={"seed": options.seed + copy})
            copies.append(train_all(job, candidates, recovery.tokens, seeded, recovery.fingerprint))
        trials = zip(*copies, strict=True)
        results = [_recovered(job, e, ts, recovery.tokens) for e, ts in zip(candidates, trials, strict=True)]
    for candidate, result in zip(candidates, results, strict=True):
        if result is None:
            reporter.message(f"SS408 training of {candidate.genome.id} diverged; it is left out.")
    recovered = [result for result in results if result is not None]
    if not recovered:
        raise problem("SS408", "training of all candidates diverged.", fix="Lower training.learning_rate.")
    return recovered


def _recovered(job: Job, candidate: Evaluation, trials: Sequence[Trial], tokens: int) -> Recovered | None:
    """Return the candidate from its trained copies; None if all diverged."""
    quality = job.launch.config.objectives[0]
    results = {trial.directory: trial.result(tokens) for trial in trials}
    trained = {directory: result for directory, result in results.items() if isinstance(result, Trained)}
    if not trained:
        return None
    spent = sum(result.trained for result in results.values() if result is not None)
    (first, result), *others = trained.items()
    if not others:
        final = quality_of(np.array(result.losses), quality)
        return Recovered(candidate, final, weights_path(first, tokens), spent)
    paths = [weights_path(directory, tokens) for directory in trained]
    path = first / f"soup-{len(trials)}.safetensors"
    final, copies = _make_soup(job.setup, candidate, paths, path)
    return Recovered(candidate, final, path, spent, copies)


def _make_soup(setup: WorkerSetup, candidate: Evaluation, weights: Sequence[Path], out: Path) -> tuple[float, int]:
    """Average copies greedily and write the result; returns its quality and the number of copies in it."""
    executor, quality = LocalExecutor(setup), setup.config.objectives[0]

    def judge(state: dict[str, Any]) -> float:
        return quality_of(np.array(executor.run(Worker.losses_of, candidate.genome.data, state)), quality)

    soup, used = greedy_soup([read_tensors(path, RETRAIN) for path in weights], judge)
    write_tensors(out, round_to_storage(soup, setup.source.storage), durable=True)
    return judge(soup), len(used)
