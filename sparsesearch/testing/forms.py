"""Conformance of export forms: exports load in every way that the form declares, and are the candidate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sparsesearch.engine import controller
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.engine.reopen import open_run
from sparsesearch.export import FORMS, export, load
from sparsesearch.export.forms.graphs import GRAPHS
from sparsesearch.export.forms.registry import obstacle
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.testing.networks import launch_of

# Of the outputs of a loaded export from the candidate's.
ABSOLUTE, RELATIVE = 2e-4, 1e-3


def check_form(
    form: str,
    work: Path,
    results: RunResults | None = None,
    candidate: Evaluation | None = None,
    access: Access = UNTRUSTED,
) -> dict[str, Any]:
    """Check a registered form, and return the report of the export that was made for it.

    - An export is verified in every way that the form declares.
    - It holds the candidate's nonzeros, and at least as many parameters.
    - The network that `sparsesearch.load` returns has the candidate's outputs on samples that the verification did not
      use.

    Args:
        work: a directory; the export is written to `export` in it.
        results: a finished run; None: a search of the embedded model, made in `run`.
        candidate: candidate of the run; None: the first that can take the form.
        access: parts of the run that its directory cannot hold.

    Raises AssertionError, or InputError SS502 for a candidate that cannot take the form.
    """
    results = results or controller.start(launch_of("demo"), work / "run", Reporter(quiet=True))
    reopened = open_run(results, access)
    supernet = reopened.supernet
    candidate = candidate or _first_possible(form, results, supernet)
    report = export(reopened, candidate, work / "export", form)
    module = access.module is not None and form not in GRAPHS
    ways = ["sparsesearch.load"] if module else sorted(FORMS[form].ways)
    assert report["verified"] == ways, f"verified by {', '.join(ways)}, got {report['verified']}"
    assert report["why"] == "asked for", f"the form is written because it was asked for, got {report['why']!r}"
    assert report["nonzeros"] == candidate.costs["nonzeros"], "the file holds the candidate's nonzeros"
    assert report["params"] >= candidate.costs["params"], "the file holds the candidate's parameters"
    _check_outputs(results, candidate, work / "export", access)
    return report


def _first_possible(form: str, results: RunResults, supernet: StitchedSupernet) -> Evaluation:
    reasons = {}
    for evaluation in results.evaluations:
        reason = obstacle(form, supernet, evaluation.genome)
        if not reason and evaluation.genome != results.space.dense:
            return evaluation
        reasons[evaluation.genome.id] = reason
    raise AssertionError(f"no candidate of {results.run.path} can take form {form}: {reasons}")


def _check_outputs(results: RunResults, candidate: Evaluation, directory: Path, access: Access) -> None:
    opened = open_run(results, access)
    model = opened.supernet.materialise(candidate.genome)
    opened.norms.correct(model, candidate.genome)
    inputs = results.run.samples("selection").rows(slice(0, 5)).inputs(model)
    loaded = load(directory, dtype=torch.float32, module=access.module, trust_remote_code=True)
    task = opened.supernet.network.task
    with torch.no_grad():
        expected, outputs = task.call(model, inputs), task.call(loaded, inputs)
    close = torch.allclose(outputs, expected, atol=ABSOLUTE, rtol=RELATIVE)
    assert close, f"a loaded export has the candidate's outputs, got {(outputs - expected).abs().max()} off"
