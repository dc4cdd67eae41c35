"""Writing a candidate to a directory, loaded again and verified before anything appears at its place."""

from __future__ import annotations

import contextlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import torch

from sparsesearch.engine.phases.trials import kept_weights
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.engine.workflows.recover import Recovered
from sparsesearch.errors import problem
from sparsesearch.export import hub
from sparsesearch.export.card import load_line, model_card
from sparsesearch.export.card_figure import FIGURE, write_figure
from sparsesearch.export.forms import pattern_check
from sparsesearch.export.forms.graphs import GRAPHS, check_packages
from sparsesearch.export.forms.registry import FORMS, choose
from sparsesearch.export.loading import MANIFEST
from sparsesearch.export.model_files import write_model_files
from sparsesearch.export.new_directory import new_directory
from sparsesearch.export.verification import verify_export
from sparsesearch.runs.directory import RunDirectory, check_vacant
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.tensors import read_tensors
from sparsesearch.training.trainer import RETRAIN

WEIGHT_FILES = (".safetensors", ".onnx", ".data", ".pt2")


def export(
    reopened: ReopenedRun,
    candidate: Evaluation,
    out: Path,
    form: str = "auto",
    trained: Path | None = None,
    push_to_hub: str | None = None,
    private: bool = False,
) -> dict[str, Any]:
    """Write a candidate as a model directory and verify it.

    Args:
        reopened: the candidate's run.
        candidate: one of its evaluations.
        out: a directory that does not exist yet, or is empty.
        form: `auto` or a name in `FORMS`.
        trained: safetensors file of the candidate's weights after training; None for those of its rung.
        push_to_hub: `ORG/NAME` of a repository to upload the directory to after it is verified.
        private: make that repository a private one.

    Returns:
        `{form, why, out, id, params, nonzeros, bytes, verified, max_abs_logit_diff, load, notes}`; `pattern` for a
        candidate with N:M matrices, `hub` for the address of the repository.

    Raises InputError SS500 (directory not empty), SS502 (form impossible), SS508 (not logged in), SparseSearchError
    SS506 (does not verify), SS507 (cannot be traced).
    """
    check_request(out, form, push_to_hub)
    results = reopened.results
    supernet, genome = reopened.supernet, candidate.genome
    trained = trained or trained_weights(results, candidate)
    state = None if trained is None else read_tensors(trained, RETRAIN)
    with supernet.with_trained_weights(genome, state):
        form, why = choose(form, supernet, genome)
    with supernet.with_trained_weights(genome, state), new_directory(out) as work:
        report: dict[str, Any] = {"form": form, "why": why, "out": str(out), "id": genome.id}
        report |= write_model_files(form, work, reopened, candidate, correct_statistics=trained is None)
        report |= {"bytes": _size(work), "load": load_line(form, out, supernet.network.task.auto_class), "notes": []}
        provenance = _provenance(results, candidate, reopened) | report.pop("more")
        _write_manifest(work, report | provenance)
        report |= verify_export(form, work, reopened, candidate)
        report |= _pattern(reopened, genome)
        report["notes"] = _notes(form, report, candidate, results.space.dense_costs)
        _write_manifest(work, report | provenance)
        write_figure(results, candidate, work / FIGURE)
        (work / "README.md").write_text(model_card(report, provenance, results, candidate))
    _note_in_run(results.run, report)
    return report if push_to_hub is None else report | {"hub": hub.push(out, push_to_hub, private)}


def write_recovered(reopened: ReopenedRun, recovered: Recovered, out: Path, form: str) -> dict[str, Any]:
    """Return the report of a trained candidate's model, and of its training; a model of an earlier call is read."""
    report = read_earlier_manifest(out) or export(reopened, recovered.after, out, form, trained=recovered.weights)
    return report | {
        "before": recovered.candidate.quality,
        "after": recovered.quality,
        "training_tokens": recovered.after.trained,
        "recovery_tokens": recovered.tokens,
        "soup": recovered.copies,
    }


def read_earlier_manifest(out: Path) -> dict[str, Any] | None:
    """Return the manifest that an earlier export wrote to a directory; None if there is none."""
    path = out / MANIFEST
    manifest: dict[str, Any] | None = json.loads(path.read_text()) if path.exists() else None
    return manifest


def check_request(out: Path, form: str, push_to_hub: str | None = None) -> None:
    """Raise InputError if an export cannot be written whatever the candidate; for checks before a run is reopened."""
    check_vacant(out)
    if push_to_hub is not None:
        hub.check(push_to_hub)
    if form in GRAPHS:
        check_packages(form)


def trained_weights(results: RunResults, candidate: Evaluation) -> Path | None:
    """Return the file of a candidate's trained weights; None for one that was not trained.

    Raises InputError SS501 if it was trained and the weights are not kept.
    """
    if not candidate.trained:
        return None
    weights = kept_weights(results.run, candidate)
    if weights is None:
        raise problem(
            "SS501",
            f"candidate {candidate.genome.id} was measured after {candidate.trained:,} tokens of training, "
            "and its weights are not kept.",
            fix="Choose one of the front, or recover it.",
        )
    return weights


def _note_in_run(run: RunDirectory, report: dict[str, Any]) -> None:
    """Append a line for the run's report, if the run can be written to."""
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    kept = {key: report[key] for key in ("id", "form", "verified", "bytes")}
    with contextlib.suppress(OSError):
        run.append(run.exports, kept | {"out": str(Path(report["out"]).resolve()), "when": when})


def form_of(supernet: StitchedSupernet, genome: Genome, form: str) -> str:
    """Return the form that a genome is written in; raises InputError SS102 (unknown) or SS502 (impossible)."""
    return choose(form, supernet, genome)[0]


def _write_manifest(work: Path, manifest: dict[str, Any]) -> None:
    (work / MANIFEST).write_text(json.dumps(manifest, indent=1))


def _size(work: Path) -> int:
    """Return the bytes of all files with weights."""
    return sum(path.stat().st_size for path in work.iterdir() if path.suffix in WEIGHT_FILES)


def _pattern(reopened: ReopenedRun, genome: Genome) -> dict[str, Any]:
    """Return `{pattern: ...}` for a candidate pruned to an N:M pattern; with a GPU, 2:4 also in torch's own format."""
    pattern = reopened.launch.config.pruners.pattern
    counts = pattern and pattern_check.check(reopened.supernet, genome, pattern)
    if not counts:
        return {}
    if counts["pattern"] == "2:4" and torch.cuda.is_available():
        matrices = pattern_check.pruned_matrices(reopened.supernet, genome)
        whole = {name: matrix for name, matrix in matrices.items() if name not in counts["broken"]}
        counts["semi_structured"] = pattern_check.round_trip(whole)
        if counts["semi_structured"]["max_abs_diff"]:
            raise problem("SS506", f"2:4 matrices differ after a round trip on the GPU: {json.dumps(counts)}")
    return {"pattern": counts}


def _notes(form: str, report: dict[str, Any], candidate: Evaluation, dense: dict[str, int]) -> list[str]:
    notes = []
    zeros = report["params"] - report["nonzeros"]
    if form != "padded" and zeros > 0.02 * report["params"]:
        notes.append(
            f"SS503 note: the file is {report['bytes'] / 1e6:.1f} MB (dense {dense['bytes'] / 1e6:.1f} MB) and holds "
            "zeros in place. Unstructured zeros make a model neither smaller on disk nor faster without a sparse "
            "kernel."
        )
    counts = {"params": report["params"], "candidate": candidate.costs["params"], "dense": dense["params"]}
    if write_notes := FORMS[form].notes:
        notes += write_notes(counts)
    return notes + ([pattern_check.note(report["pattern"])] if "pattern" in report else [])


def _image_options(reopened: ReopenedRun) -> dict[str, Any] | None:
    image = reopened.launch.config.data.calibration.image
    return None if image is None else image.model_dump()


def _provenance(results: RunResults, candidate: Evaluation, reopened: ReopenedRun) -> dict[str, Any]:
    return {
        "schema": 1,
        "task": reopened.supernet.network.task.name,
        "image": _image_options(reopened),
        "model": results.info["model"],
        "weights_sha256": results.info["fingerprint"]["weights"],
        "objectives": {name: results.values(candidate)[name] for name in results.objectives},
        "costs": candidate.costs,
        "dense_costs": results.space.dense_costs,
        "kept": results.space.describe(candidate.genome),
        "training_tokens": candidate.trained,
        "versions": results.info["versions"],
    }
