"""Verification of an export: loaded, in fresh processes if possible, and compared with the searched network."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sparsesearch.data import Samples
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.errors import machine_problem, problem
from sparsesearch.export import verify_in_process
from sparsesearch.export.forms.graphs import GRAPHS, graph_inputs
from sparsesearch.export.forms.registry import FORMS
from sparsesearch.export.loading import load
from sparsesearch.models.source import ModuleSource
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.searchers import Evaluation


def verification_samples(run: RunDirectory) -> Samples:
    """Return the two selection samples that exports are verified on."""
    return run.samples("selection").rows(slice(0, 2))


def verify_export(form: str, work: Path, reopened: ReopenedRun, candidate: Evaluation) -> dict[str, Any]:
    """Load an export by every call that its form supports, and compare it with the searched network.

    Each call is in a fresh process, except for a module passed from Python, which only this process can make.

    Returns:
        `{verified, max_abs_logit_diff, params, nonzeros}`, where `verified` lists the calls.

    Raises SparseSearchError SS506 if it does not load, or outputs differ.
    """
    supernet = reopened.supernet
    model = _searched_model(reopened, candidate)
    inputs = verification_samples(reopened.results.run).inputs(model)
    if form in GRAPHS:
        inputs = graph_inputs(supernet.network.task, inputs)
    outputs = verify_in_process.outputs_of(model, inputs)
    ways = _outcomes(form, work, reopened, inputs, outputs)
    worst = max(way["max_abs_logit_diff"] for way in ways.values())
    if not worst <= verify_in_process.TOLERANCE:
        raise problem("SS506", f"the export differs from what was searched: {json.dumps(ways)}")
    wrong = {name for way in ways.values() for name in way["disagreeing"]}
    # A use in which the dense network differs too is no fault of the export.
    if wrong and (
        wrong := wrong - set(verify_in_process.find_disagreements(supernet.apply(supernet.space.dense), inputs))
    ):
        raise problem(
            "SS506",
            f"the export's outputs in use differ from a plain forward pass: {', '.join(sorted(wrong))}.",
            fix="Choose another form (--form), or a candidate that keeps its first attention.",
        )
    first = next(iter(ways.values()))
    counts = {name: first[name] for name in ("params", "nonzeros") if name in first}
    return counts | {"verified": sorted(ways), "max_abs_logit_diff": worst}


def _searched_model(reopened: ReopenedRun, candidate: Evaluation) -> Any:
    """Return the network as the search measured it; it does not share the code that assembles exports."""
    supernet, genome = reopened.supernet, candidate.genome
    if supernet.has_trained_weights(genome):
        return supernet.materialise(genome)
    model = supernet.apply(genome)
    reopened.norms.correct(model, genome)
    return model


def _outcomes(
    form: str, work: Path, reopened: ReopenedRun, inputs: dict[str, torch.Tensor], outputs: torch.Tensor
) -> dict[str, dict[str, Any]]:
    """Return the outcome of loading the export and comparing it with `outputs`, by the call that loads it."""
    source, task = reopened.launch.source, reopened.supernet.network.task
    if isinstance(source, ModuleSource) and form not in GRAPHS:
        # Only the user's process can make this module.
        loaded = load(work, torch.float32, module=source.module)
        return {"sparsesearch.load": verify_in_process.check(loaded, inputs, outputs)}
    ways = FORMS[form].ways if task.auto_class or form in GRAPHS else ("sparsesearch.load",)
    with tempfile.TemporaryDirectory() as directory:
        reference = Path(directory) / "reference.safetensors"
        try:
            save_file(inputs | {"outputs": outputs.contiguous()}, reference, {"auto_class": task.auto_class})
        except Exception as error:  # safetensors raises its own type for errors of the disk
            raise machine_problem(error, f"cannot write to {directory}") or error from error
        return {way: _load_freshly(work, reference, way) for way in ways}


def _load_freshly(work: Path, reference: Path, way: str) -> dict[str, Any]:
    """Return what `verify_in_process.py` reports in a new process; -P keeps this directory's modules off its path."""
    command = [sys.executable, "-P", verify_in_process.__file__, str(work), str(reference), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise problem("SS506", f"the export does not load by {way} in a fresh process: {reason}")
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome
