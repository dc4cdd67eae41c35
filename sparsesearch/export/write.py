"""Writing a candidate to a directory, verified in a fresh process before anything appears at its place."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from sparsesearch.calibration import Samples
from sparsesearch.config import ImageConfig, RunConfig, load_config
from sparsesearch.engine.directory import RunDirectory
from sparsesearch.engine.launch import prepare
from sparsesearch.engine.results import RunResults
from sparsesearch.engine.supernet_checks import check_weights
from sparsesearch.engine.trials import kept_weights
from sparsesearch.errors import EnvironmentProblem, InputError, SparseSearchError
from sparsesearch.evaluation.batchnorm import RunningStatistics
from sparsesearch.evaluation.evaluator import USER
from sparsesearch.export import verify
from sparsesearch.export.card import model_card
from sparsesearch.export.forms import choose, uniform, zeros_problem
from sparsesearch.export.loading import MANIFEST, STATE, load
from sparsesearch.models import load_tokenizer, surgery
from sparsesearch.models.source import Checkpoint, Given, Source
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome
from sparsesearch.supernet import LevelStore, StitchedSupernet
from sparsesearch.supernet.stitched import load_exactly, stock_model

CODE = "modeling_sparsesearch.py"
PREPROCESSOR = "preprocessor_config.json"


@dataclass(frozen=True)
class Opened:
    """A finished run, ready to make its candidates again on the CPU in float32; `image` is how its images were made.

    `norms.correct` does for a candidate's batch normalisation what the search did before it judged the candidate.
    """

    supernet: StitchedSupernet
    source: Source
    norms: RunningStatistics
    image: ImageConfig | None


def open_run(results: RunResults, module: Any = None) -> Opened:
    """The supernet of a finished run, and where its network came from.

    Args:
        module: for a run on a module that was given from Python: the same module again.

    Raises InputError SS505 where the run's level store is gone, SS602 where the module is not the one searched.
    """
    run = results.run
    config = load_config(run.config)
    own = _unused if _is_own(config) else None
    launch = prepare(config, saved=run, reread=(), module=module, quality=own, searches=False)
    if launch.weights != results.info["fingerprint"]["weights"]:
        raise InputError("SS602", f"{run.path}: the model is not the one that was searched.", "Give the same one.")
    setup = launch.setup(run, run.path.parent / ".cache")
    for what, place in (("level store", setup.store), ("supernet", setup.supernet)):
        if place and not (Path(place) / "index.json").exists():
            raise InputError(
                "SS505", f"the run's {what} {place} is gone.", f"'sparsesearch resume {run.path}' rebuilds it."
            )
    if setup.supernet:
        check_weights(Path(setup.supernet))
    store = LevelStore.open(Path(setup.store), launch.store_key)
    model = setup.source.load(torch.float32, "cpu")
    compensate = config.pruners.compensate
    supernet = StitchedSupernet(model, launch.network, results.space, store.files, compensate=compensate)
    samples = launch.samples["calibration"].rows(slice(0, config.data.batch_norm))
    norms = RunningStatistics(supernet, launch.network.task, samples, config.batch)
    return Opened(supernet, launch.source, norms, config.data.calibration.image)


def _is_own(config: RunConfig) -> bool:
    return config.objectives[0] == USER


def _unused(model: Any, samples: Samples) -> float:
    """Stands for a user's quality where nothing is judged."""
    raise NotImplementedError


def export(
    results: RunResults,
    candidate: Evaluation,
    out: Path,
    form: str = "auto",
    module: Any = None,
    trained: Path | None = None,
) -> dict[str, Any]:
    """Write a candidate as a model directory and verify it.

    Args:
        results: the candidate's run.
        candidate: one of its evaluations.
        out: a directory that does not exist yet, or is empty.
        form: `auto` or a name in `FORMS`.
        module: for a run on a module that was given from Python: the same module again.
        trained: safetensors file of the candidate's weights after training; where None, those of its rung.

    Returns:
        `{form, out, id, params, nonzeros, bytes, verified, max_abs_logit_diff, load, notes}`.

    Raises InputError SS500 (directory not empty), SS502 (form impossible), SparseSearchError SS506 (does not verify).
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError("SS500", f"{out} exists and is not empty.", "Choose another --out.")
    opened = open_run(results, module)
    supernet, genome = opened.supernet, candidate.genome
    if trained is None and candidate.trained:
        trained = kept_weights(results.run, candidate)
        if trained is None:
            raise InputError(
                "SS501", f"candidate {genome.id} was measured after {candidate.trained:,} tokens of training, and what "
                "it was then is not kept.", "Choose one of the front, or recover it.",
            )  # fmt: skip
    if trained is not None:
        supernet.trained[genome] = load_file(trained)
    form, changes = form_of(supernet, genome, form), supernet.surgery(genome)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    except OSError as error:
        raise EnvironmentProblem(
            "SS302", f"cannot write to {out}: {error.strerror}.", "Choose another --out."
        ) from None
    try:
        model = _build(form, supernet, genome)
        if trained is None:
            opened.norms.correct(model, genome)
        model = model.to(opened.source.storage)
        if isinstance(opened.source, Checkpoint):
            _save_checkpoint(model, form, opened, work)
            more: dict[str, Any] = {"classes": _classes(supernet)}
        else:
            # Tied weights are written once a name: the format refuses shared memory.
            save_file({name: t.clone().contiguous() for name, t in model.state_dict().items()}, work / STATE)
            more = {"factory": getattr(opened.source, "name", None), "surgery": changes if form == "uneven" else None}
        report = _report(form, out, work, results, candidate, supernet.network.task.auto_class)
        told = _provenance(results, candidate, opened) | more
        (work / MANIFEST).write_text(json.dumps(report | told, indent=1))
        report |= _verify(form, work, opened, candidate, results.run)
        (work / MANIFEST).write_text(json.dumps(report | told, indent=1))
        (work / "README.md").write_text(model_card(report, results, candidate))
        if out.exists():
            out.rmdir()
        work.chmod(0o755)  # mkdtemp's is for its owner alone
        for path in work.glob("*.safetensors"):
            path.chmod(0o644)
        work.replace(out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def form_of(supernet: StitchedSupernet, genome: Genome, form: str) -> str:
    """The form that a genome is written in; raises InputError SS102 (unknown) or SS502 (impossible)."""
    changes, stock = supernet.surgery(genome), uniform(supernet, genome)
    problem = stock if isinstance(stock, str) else ""
    return choose(form, zeros_problem(supernet, genome), problem, bool(changes["shapes"] or changes["stand_ins"]))


def _save_checkpoint(model: Any, form: str, opened: Opened, work: Path) -> None:
    """Write what transformers reads: the model, its code where it has its own, its tokenizer or image settings."""
    source = opened.source.directory
    assert source is not None
    model.save_pretrained(work)
    if form == "uneven":
        _write_code(work / CODE, opened.supernet)
    if opened.supernet.network.task.data != "image":
        load_tokenizer(source).save_pretrained(work)
    elif (source / PREPROCESSOR).is_file():
        shutil.copy(source / PREPROCESSOR, work / PREPROCESSOR)


def _classes(supernet: StitchedSupernet) -> tuple[str, str]:
    """Names of the stock configuration and model classes in transformers."""
    return type(supernet.model.config).__name__, type(supernet.model).__name__


def _build(form: str, supernet: StitchedSupernet, genome: Genome) -> Any:
    """The candidate as a model object of its form, float32."""
    if form == "zeros":
        model = stock_model(supernet.apply(supernet.space.dense))
        load_exactly(model, supernet.state_dict(genome, padded=True))
        return model.eval()
    if not isinstance(supernet.model, PreTrainedModel):
        return supernet.materialise(genome)
    if form == "uniform":
        found = uniform(supernet, genome)
        assert not isinstance(found, str)
        config, state = found
        model = type(supernet.model)._from_config(config, dtype=torch.float32)
        load_exactly(model, state)
        return model
    config_class, model_class = surgery.define(*_classes(supernet))
    data = supernet.model.config.to_dict() | {"sparsesearch": supernet.surgery(genome)}
    for key in ("model_type", "architectures", "transformers_version"):
        data.pop(key, None)
    uneven, module = config_class(**data), CODE.removesuffix(".py")
    uneven.auto_map = {
        "AutoConfig": f"{module}.{config_class.__name__}",
        supernet.network.task.auto_class: f"{module}.{model_class.__name__}",
    }
    model = model_class._from_config(uneven, dtype=torch.float32)
    load_exactly(model, supernet.state_dict(genome))
    return model


def _write_code(path: Path, supernet: StitchedSupernet) -> None:
    """The modeling file that `trust_remote_code` runs: `surgery.py`, and what it is for."""
    names = ", ".join(map(repr, _classes(supernet)))
    last = f"globals().update({{cls.__name__: cls for cls in define({names}, __name__)}})"
    path.write_text(f"{Path(surgery.__file__).read_text()}\n\n{last}\n")


def _report(
    form: str, out: Path, work: Path, results: RunResults, candidate: Evaluation, auto_class: str
) -> dict[str, Any]:
    size = sum(path.stat().st_size for path in work.glob("*.safetensors"))
    dense = results.space.dense_costs["bytes"]
    zeros = candidate.costs["params"] - candidate.costs["nonzeros"]
    notes = []
    if form == "zeros" or zeros > 0.02 * candidate.costs["params"]:
        notes.append(
            f"SS503 note: the file is {size / 1e6:.1f} MB (dense {dense / 1e6:.1f} MB) and holds zeros in place. "
            "Unstructured zeros make a model neither smaller on disk nor faster without a sparse kernel."
        )
    code = f'sparsesearch.load("{out}")'
    if form != "uneven" and auto_class:
        code = f'transformers.{auto_class}.from_pretrained("{out}")'
    return {"form": form, "out": str(out), "id": candidate.genome.id, "bytes": size, "load": code, "notes": notes}


def _verify(form: str, work: Path, opened: Opened, candidate: Evaluation, run: RunDirectory) -> dict[str, Any]:
    """Reload in fresh processes, every way the form promises, and compare; raises SparseSearchError SS506."""
    supernet, samples = opened.supernet, run.samples("selection").rows(slice(0, 2))
    task, genome = supernet.network.task, candidate.genome
    if genome in supernet.trained:
        model = supernet.materialise(genome)
    else:
        # What the search judged, which has nothing to do with how exports are put together.
        model = supernet.apply(genome)
        opened.norms.correct(model, genome)
    inputs = samples.inputs(model)
    outputs = verify.outputs_of(model, inputs)
    with tempfile.TemporaryDirectory() as directory:
        reference = Path(directory) / "reference.safetensors"
        told = {"auto_class": task.auto_class, "generates": str(task.generates)}
        save_file(inputs | {"outputs": outputs.contiguous()}, reference, told)
        if isinstance(opened.source, Given):
            # Nothing but the user's own process can make this module.
            again = load(work, torch.float32, module=opened.source.module)
            ways = {"sparsesearch.load": verify.check(again, inputs, outputs, generates=False)}
        else:
            wanted = verify.WAYS[form] if task.auto_class else ("sparsesearch.load",)
            ways = {way: _load_freshly(work, reference, way) for way in wanted}
    worst = max(way["max_abs_logit_diff"] for way in ways.values())
    if not worst <= verify.TOLERANCE or not all(way["generates"] for way in ways.values()):
        raise SparseSearchError("SS506", f"the export differs from what was searched: {json.dumps(ways)}")
    first = next(iter(ways.values()))
    return {
        "params": first["params"],
        "nonzeros": first["nonzeros"],
        "verified": sorted(ways),
        "max_abs_logit_diff": worst,
    }


def _load_freshly(work: Path, reference: Path, way: str) -> dict[str, Any]:
    """What `verify.py` finds in a new process; -P keeps this folder's modules off its path."""
    command = [sys.executable, "-P", verify.__file__, str(work), str(reference), way]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise SparseSearchError("SS506", f"the export does not load by {way} in a fresh process: {reason}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _provenance(results: RunResults, candidate: Evaluation, opened: Opened) -> dict[str, Any]:
    return {
        "schema": 1,
        "task": opened.supernet.network.task.name,
        "image": opened.image and opened.image.model_dump(),
        "model": results.info["model"],
        "weights_sha256": results.info["fingerprint"]["weights"],
        "objectives": {name: results.values(candidate)[name] for name in results.objectives},
        "costs": candidate.costs,
        "dense_costs": results.space.dense_costs,
        "kept": results.space.describe(candidate.genome),
        "training_tokens": candidate.trained,
        "versions": results.info["versions"],
    }
