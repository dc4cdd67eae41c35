"""Writing a candidate to a directory, verified in a fresh process before anything appears at its place."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from sparsesearch.data import Samples
from sparsesearch.engine.phases.trials import kept_weights
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.engine.workflows.recover import Recovered
from sparsesearch.errors import machine_problem, problem
from sparsesearch.export import hub, verify
from sparsesearch.export.card import load_line, model_card
from sparsesearch.export.card_figure import FIGURE, write_figure
from sparsesearch.export.forms import pattern_check
from sparsesearch.export.forms.graphs import GRAPHS, check_packages, graph_inputs
from sparsesearch.export.forms.graphs import save as save_graph
from sparsesearch.export.forms.registry import FORMS, choose, stock_classes
from sparsesearch.export.loading import MANIFEST, STATE, load
from sparsesearch.models import load_tokenizer
from sparsesearch.models.checkpoint import TensorTypes
from sparsesearch.models.source import Checkpoint, Factory, ModuleSource, Source
from sparsesearch.runs.directory import RunDirectory, check_vacant, is_alive
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.tensors import read_tensors
from sparsesearch.training.trainer import RETRAIN

WEIGHT_FILES = (".safetensors", ".onnx", ".data", ".pt2")
PREPROCESSOR = "preprocessor_config.json"
# Files beside a checkpoint that say how it is used, and stay as they are.
BESIDE = (
    "generation_config.json",
    "modules.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)
# How the names of directories begin that are written to before they have their place: then host and process.
_LEFTOVER = ".sparsesearch-"


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
    with supernet.with_weights(genome, state):
        form, why = choose(form, supernet, genome)
    with supernet.with_weights(genome, state), _appearing(out) as work:
        report: dict[str, Any] = {"form": form, "why": why, "out": str(out), "id": genome.id}
        report |= _write(form, work, reopened, candidate, results.run, corrects=trained is None)
        report |= {"bytes": _size(work), "load": load_line(form, out, supernet.network.task.auto_class), "notes": []}
        told = _provenance(results, candidate, reopened) | report.pop("more")
        _tell(work, report | told)
        report |= _verify(form, work, reopened, candidate, results.run)
        report |= _pattern(reopened, genome)
        report["notes"] = _notes(form, report, candidate, results.space.dense_costs)
        _tell(work, report | told)
        write_figure(results, candidate, work / FIGURE)
        (work / "README.md").write_text(model_card(report, told, results, candidate))
    _note_in_run(results.run, report)
    return report if push_to_hub is None else report | {"hub": hub.push(out, push_to_hub, private)}


def write_recovered(reopened: ReopenedRun, recovered: Recovered, out: Path, form: str) -> dict[str, Any]:
    """Return the report of a trained candidate's model, and of its training; a model of an earlier call is read."""
    report = exported(out) or export(reopened, recovered.after, out, form, trained=recovered.weights)
    return report | {
        "before": recovered.candidate.quality,
        "after": recovered.quality,
        "training_tokens": recovered.after.trained,
        "recovery_tokens": recovered.tokens,
        "soup": recovered.copies,
    }


def exported(out: Path) -> dict[str, Any] | None:
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
    """File of what training made of a candidate; None for one that was not trained.

    Raises InputError SS501 where it was, and that is not kept.
    """
    if not candidate.trained:
        return None
    found = kept_weights(results.run, candidate)
    if found is None:
        raise problem(
            "SS501",
            f"candidate {candidate.genome.id} was measured after {candidate.trained:,} tokens of training, "
            "and what it was then is not kept.",
            fix="Choose one of the front, or recover it.",
        )
    return found


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """A directory to write into, which takes the place of `out` when all went well and leaves nothing otherwise.

    Raises EnvironmentProblem SS302, SS305 or SS312, or InputError SS126, where it cannot be written.
    """
    work = None
    try:
        out = out.resolve()  # of a link, what it leads to
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out.parent)
        work = Path(tempfile.mkdtemp(prefix=f"{_LEFTOVER}{socket.gethostname()}-{os.getpid()}-", dir=out.parent))
        yield work
        if out.exists():
            out.rmdir()
        work.chmod(0o755)  # mkdtemp's is for its owner alone
        for path in work.glob("*.safetensors"):
            path.chmod(0o644)
        work.replace(out)
    except Exception as error:
        fault = machine_problem(error, f"cannot write {out}")
        if fault is None:
            raise
        raise fault from error
    finally:
        if work is not None:
            shutil.rmtree(work, ignore_errors=True)


def _remove_leftovers(parent: Path) -> None:
    """Remove what exports of this machine that were killed left in a directory."""
    for path in parent.glob(f"{_LEFTOVER}{socket.gethostname()}-*"):
        found = re.search(r"-(\d+)-\w+$", path.name)
        if found and not is_alive(int(found[1])):
            shutil.rmtree(path, ignore_errors=True)


def _note_in_run(run: RunDirectory, report: dict[str, Any]) -> None:
    """One line for the run's report; a run that cannot be written to goes without."""
    when = datetime.now().astimezone().isoformat(timespec="seconds")
    kept = {key: report[key] for key in ("id", "form", "verified", "bytes")}
    with contextlib.suppress(OSError):
        run.append(run.exports, kept | {"out": str(Path(report["out"]).resolve()), "when": when})


def form_of(supernet: StitchedSupernet, genome: Genome, form: str) -> str:
    """The form that a genome is written in; raises InputError SS102 (unknown) or SS502 (impossible)."""
    return choose(form, supernet, genome)[0]


def _tell(work: Path, told: dict[str, Any]) -> None:
    (work / MANIFEST).write_text(json.dumps(told, indent=1))


def _write(
    form: str, work: Path, reopened: ReopenedRun, candidate: Evaluation, run: RunDirectory, corrects: bool
) -> dict[str, Any]:
    """Write the model's own files; under `more` what the manifest must say of them, and counts of a graph's weights."""
    supernet, genome, task = reopened.supernet, candidate.genome, reopened.supernet.network.task
    model = FORMS[form].plan(supernet, genome)()
    if corrects:
        reopened.norms.correct(model, genome)
    if form in GRAPHS:
        inputs = _samples(run).inputs(model)
        names = save_graph(form, model, task, inputs, work / GRAPHS[form])
        if reopened.launch.source.directory is not None:
            _save_beside(reopened, work)
        length = supernet.network.max_length
        return verify.counts(model) | {"more": {"inputs": names, "max_length": length}}
    if isinstance(reopened.launch.source, Checkpoint):
        _in_types(model, reopened.launch.source.types).save_pretrained(work)
        for name, text in (FORMS[form].code or _no_code)(supernet).items():
            (work / name).write_text(text)
        _save_beside(reopened, work)
        return {"more": {"classes": stock_classes(supernet)}}
    # Tied weights are written once a name: the format refuses shared memory.
    save_file(_in_own_types(model.state_dict(), reopened.launch.source), work / STATE)
    changes = supernet.surgery(genome) if form == "uneven" else None
    return {"more": {"factory": getattr(reopened.launch.source, "name", None), "surgery": changes}}


def _in_types(model: Any, types: TensorTypes) -> Any:
    """The model with each tensor in the type that the checkpoint has it in, such as a router's bias in float32."""
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(types.of(name))
    return model


def _in_own_types(state: dict[str, torch.Tensor], source: Source) -> dict[str, torch.Tensor]:
    """Copies of tensors in the types that the module keeps them in; biases that it has not in that of its weights."""
    assert isinstance(source, (ModuleSource, Factory))
    types = source.types
    return {name: t.to(types.get(name, source.storage), copy=True).contiguous() for name, t in state.items()}


def _no_code(_: StitchedSupernet) -> dict[str, str]:
    return {}


def _save_beside(reopened: ReopenedRun, work: Path) -> None:
    """What goes with a checkpoint: its tokenizer, or how its images are made, and how it generates or is pooled."""
    source = reopened.launch.source.directory
    assert source is not None
    for name in (*BESIDE, *_modules(source)):
        if (source / name).is_file():
            (work / name).parent.mkdir(exist_ok=True)
            shutil.copyfile(source / name, work / name)
    if reopened.supernet.network.task.data != "image":
        load_tokenizer(source).save_pretrained(work)
    elif (source / PREPROCESSOR).is_file():
        shutil.copy(source / PREPROCESSOR, work / PREPROCESSOR)


def _modules(source: Path) -> list[str]:
    """Files of the modules that sentence-transformers puts behind a network, which its `modules.json` names."""
    try:
        modules = json.loads((source / BESIDE[1]).read_text())
        names = [str(module["path"]) for module in modules]
    except (OSError, ValueError, TypeError, KeyError):
        return []
    places = [source / name for name in names if re.fullmatch(r"[0-9]+_\w+", name)]
    return [
        f"{place.name}/{file.name}"
        for place in places
        if place.is_dir()
        for file in sorted(place.iterdir())
        if file.suffix in (".json", ".safetensors")
    ]


def _samples(run: RunDirectory) -> Samples:
    """Two samples, which exports are verified on."""
    return run.samples("selection").rows(slice(0, 2))


def _size(work: Path) -> int:
    """Bytes of all files with weights."""
    return sum(path.stat().st_size for path in work.iterdir() if path.suffix in WEIGHT_FILES)


def _pattern(reopened: ReopenedRun, genome: Genome) -> dict[str, Any]:
    """`{pattern: ...}` of a candidate that was pruned to one, with torch's own 2:4 on a GPU."""
    found = reopened.launch.config.pruners.pattern and pattern_check.check(
        reopened.supernet, genome, reopened.launch.config.pruners.pattern
    )
    if not found:
        return {}
    if found["pattern"] == "2:4" and torch.cuda.is_available():
        matrices = pattern_check.pruned_matrices(reopened.supernet, genome)
        whole = {name: matrix for name, matrix in matrices.items() if name not in found["broken"]}
        found["semi_structured"] = pattern_check.round_trip(whole)
        if found["semi_structured"]["max_abs_diff"]:
            raise problem("SS506", f"2:4 matrices differ after a round trip on the GPU: {json.dumps(found)}")
    return {"pattern": found}


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


def _verify(form: str, work: Path, reopened: ReopenedRun, candidate: Evaluation, run: RunDirectory) -> dict[str, Any]:
    """Reload in fresh processes, every way the form promises, and compare; raises SparseSearchError SS506."""
    supernet, samples = reopened.supernet, _samples(run)
    task, genome = supernet.network.task, candidate.genome
    if supernet.has_weights(genome):
        model = supernet.materialise(genome)
    else:
        # What the search judged, which has nothing to do with how exports are put together.
        model = supernet.apply(genome)
        reopened.norms.correct(model, genome)
    inputs = samples.inputs(model)
    if form in GRAPHS:
        inputs = graph_inputs(task, inputs)
    outputs = verify.outputs_of(model, inputs)
    with tempfile.TemporaryDirectory() as directory:
        reference = Path(directory) / "reference.safetensors"
        told = {"auto_class": task.auto_class}
        try:
            save_file(inputs | {"outputs": outputs.contiguous()}, reference, told)
        except Exception as error:  # safetensors' own type for what the disk says
            raise machine_problem(error, f"cannot write to {directory}") or error from error
        if isinstance(reopened.launch.source, ModuleSource) and form not in GRAPHS:
            # Nothing but the user's own process can make this module.
            again = load(work, torch.float32, module=reopened.launch.source.module)
            ways = {"sparsesearch.load": verify.check(again, inputs, outputs)}
        else:
            promised = FORMS[form].ways
            wanted = promised if task.auto_class or form in GRAPHS else ("sparsesearch.load",)
            ways = {way: _load_freshly(work, reference, way) for way in wanted}
    worst = max(way["max_abs_logit_diff"] for way in ways.values())
    if not worst <= verify.TOLERANCE:
        raise problem("SS506", f"the export differs from what was searched: {json.dumps(ways)}")
    wrong = {name for way in ways.values() for name in way["disagreeing"]}
    # What the dense network does not do either is no fault of the export.
    if wrong and (wrong := wrong - set(verify.disagreeing(supernet.apply(supernet.space.dense), inputs))):
        raise problem(
            "SS506",
            f"the export is not in use what it is in a plain forward pass: {', '.join(sorted(wrong))} differ.",
            fix="Choose another --form, or a candidate that keeps its first attention.",
        )
    first = next(iter(ways.values()))
    counted = {name: first[name] for name in ("params", "nonzeros") if name in first}
    return counted | {"verified": sorted(ways), "max_abs_logit_diff": worst}


def _load_freshly(work: Path, reference: Path, way: str) -> dict[str, Any]:
    """What `verify.py` finds in a new process; -P keeps this folder's modules off its path."""
    command = [sys.executable, "-P", verify.__file__, str(work), str(reference), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise problem("SS506", f"the export does not load by {way} in a fresh process: {reason}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


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
