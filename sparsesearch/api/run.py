"""A run directory: its front, its picks, and everything that can be made from them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.api.front import Front
from sparsesearch.engine.launch.access import UNTRUSTED, Access
from sparsesearch.errors import problem
from sparsesearch.process_state import no_progress_bars
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers.records import Evaluation

if TYPE_CHECKING:  # they import torch
    from sparsesearch.engine.launch.launch import Launch
    from sparsesearch.engine.reopen import ReopenedRun


class Run:
    """A run directory; notebooks show its front as a figure and a table."""

    def __init__(self, results: RunResults, access: Access = UNTRUSTED) -> None:
        """
        Args:
            access: parts that the run directory cannot hold: a module, a quality, permission to run its code.
        """
        self.results, self.access = results, access

    @classmethod
    def open(
        cls,
        path: str | Path,
        module: Any = None,
        quality: Any = None,
        model: str | Path | None = None,
        trust_remote_code: bool = False,
    ) -> Run:
        """Open an existing run; raises InputError SS600.

        Args:
            module, quality: for a run on your own module, or with your own quality: the same object.
            model: directory of the run's model, if it was moved.
            trust_remote_code: allow code that the run directory names (plug-ins, a factory, code beside a model) to
                run, which exports and resuming need.
        """
        moved = None if model is None else str(model)
        return cls(RunResults(Path(path)), Access(module, quality, moved, trust_remote_code))

    @property
    def path(self) -> Path:
        return self.results.run.path

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}, {len(self.results.evaluations)} evaluations)"

    def _repr_html_(self) -> str:
        from sparsesearch.report.pages.notebook import run_html

        return run_html(self.results)

    # Reading

    def front(self) -> Front:
        """Return non-dominated candidates within every limit, measured on all selection data, smallest first."""
        return Front(self.results)

    def pick(self, rule: str = "knee") -> Evaluation:
        """Return a candidate by a rule: `knee`, `min:kl`, `max-under:params=60%`, `weights:kl=.7,params=.3`."""
        return self.results.pick(rule)

    def find(self, identity: str) -> Evaluation:
        """Return a candidate by the start of its id; raises InputError SS501."""
        return self.results.find(identity)

    def status(self) -> dict[str, Any]:
        """Return the progress of the run or how it ended, as `sparsesearch status --json` prints it."""
        from sparsesearch.report.status import status_json

        return status_json(self.path)

    def examine(self) -> dict[str, str]:
        """Read all files of the run and the caches beside it; returns the fault of each part, or an empty text."""
        from sparsesearch.engine.workflows.examine import examine

        return dict(examine(self.path))

    def report(self, offline: bool = False, figures: bool = False, journal: bool = False) -> list[Path]:
        """Write report.html and PNGs from the archive; returns their paths.

        Args:
            offline: put plotly.js into the page, which is then one file of 5 MB without links to audits.
            figures: also write every figure as PNG and SVG, in `figures/`.
            journal: also write `optuna.journal`, for optuna-dashboard.
        """
        from sparsesearch.api.reports import write_all

        return write_all(self.results, offline, figures, journal)

    def track(self, to: str = "tensorboard", watch: bool = False) -> tuple[int, str]:
        """Write the course of the search to a tracker; returns the number of points and their place.

        Args:
            to: `tensorboard`, `mlflow`, `wandb`, or a tracker of a plug-in.
            watch: follow a running search until it ends.
        """
        from sparsesearch.tracking import follow, open_tracker

        tracker = open_tracker(to, self.results)
        return follow(self.path, tracker, watch), tracker.location

    # Continuing

    def resume(self, evals: int | None = None, changes: dict[str, Any] | None = None, quiet: bool = False) -> Run:
        """Continue to the result the run would have had without interruption, and write its report.

        Args:
            evals: evaluation budget in all; that of the recipe if None.
            changes: other budgets or another executor, as `{"executor.workers": 4}`.
            quiet: show no progress on stderr.

        Raises InfeasibleError SS406 if no candidate respects every limit.
        """
        from sparsesearch.api.reports import finish
        from sparsesearch.engine import controller

        budget = {} if evals is None else {"search.evals": evals}
        reporter = Reporter(quiet)
        results = controller.resume(self.path, budget | (changes or {}), reporter, self.access)
        run = Run(results, self.access)
        finish(run.results, lambda: run.reopened, reporter)
        return run

    def refine(
        self, name: str | None = None, rounds: int = 1, changes: dict[str, Any] | None = None, quiet: bool = False
    ) -> Run:
        """Search again, beside the run, with steps half as large around its front; returns the last round's run.

        Args:
            name: name of the new run; RUN-fine if None, then RUN-fine-2, ...
            rounds: number of rounds, each around the front of the one before.
            changes: other keys of the recipe to set.
            quiet: show no progress on stderr.
        """
        from sparsesearch.api.reports import finish
        from sparsesearch.engine.workflows.iterate import search_stage

        reporter, coarse = Reporter(quiet), self
        for number in range(1, rounds + 1):
            launch = coarse.refinement(changes)
            results = search_stage(launch, self.refined_path(name, number), reporter)
            coarse = Run(results, self.access)
        finish(coarse.results, lambda: coarse.reopened, reporter)
        return coarse

    def refinement(self, changes: dict[str, Any] | None = None) -> Launch:
        """Return the launch of a refinement, with all checks of a search."""
        from sparsesearch.engine.reopen import prepare_from_run

        return prepare_from_run(self.results.run, self.access, (changes or {}) | {"refines": str(self.path)})

    def refined_path(self, name: str | None = None, number: int = 1) -> Path:
        """Return the directory of a round of refinement; raises InputError SS126."""
        from sparsesearch.api.paths import run_path

        name = f"{self.path.name}-fine" if name is None else name
        return run_path(self.path.parent, name if number == 1 else f"{name}-{number}")

    # Making models

    @cached_property
    def reopened(self) -> ReopenedRun:
        """The run's network, level store and supernet, opened once."""
        from sparsesearch.engine.reopen import open_run

        return open_run(self.results, self.access)

    def export(
        self,
        candidate: Evaluation,
        out: str | Path,
        form: str = "auto",
        push_to_hub: str | None = None,
        private: bool = False,
    ) -> dict[str, Any]:
        """Write a candidate as a model, load it again and verify it (`sparsesearch.export.export`)."""
        from sparsesearch.export.write import check_request, export

        check_request(Path(out), form, push_to_hub)
        with no_progress_bars():
            return export(self.reopened, candidate, Path(out), form, push_to_hub=push_to_hub, private=private)

    def recover(
        self,
        candidates: Evaluation | Sequence[Evaluation],
        out: str | Path,
        tokens: int = 1_000_000,
        *,
        copies: int = 1,
        form: str = "auto",
        data: str | None = None,
        changes: dict[str, Any] | None = None,
        quiet: bool = False,
    ) -> list[dict[str, Any]]:
        """Train candidates while their pruned weights stay zero, write each as a model and verify it.

        Args:
            candidates: a candidate, which is written to `out`, or several, each written to `out/ID`.
            tokens: training tokens (samples, if the data are no texts) of each copy.
            copies: number of copies of each candidate, with different seeds, averaged greedily.
            form: form of the models (`sparsesearch list forms`).
            data: training data; the run's if None.
            changes: other keys of `training` or `data.training` to set.
            quiet: show no progress on stderr.

        Returns:
            The reports of `export`, with quality before and after, and tokens. Finished trainings and models are read.
        """
        from sparsesearch.engine.workflows.recover import (
            prepare_recovery,
            recover,
            training_data,
            write_recovery_manifest,
        )
        from sparsesearch.export.write import check_request, form_of, write_recovered

        several, out = not isinstance(candidates, Evaluation), Path(out)
        candidate_list = list(candidates) if not isinstance(candidates, Evaluation) else [candidates]
        if not several:
            check_request(out, form)
        with no_progress_bars():
            if data is not None:
                changes = {"data.training": training_data(self.results, data, tokens)} | (changes or {})
            recovery = prepare_recovery(self.results, changes or {}, tokens, copies, self.access)
            for candidate in candidate_list:
                form_of(recovery.reopened.supernet, candidate.genome, form)
            if several:
                write_recovery_manifest(out, recovery, form)
            reporter = Reporter(quiet)
            recovered = recover(recovery, candidate_list, reporter)
            reporter.message(f"Writing and verifying {len(recovered)} models in {out}")
            return [
                write_recovered(recovery.reopened, result, out / result.candidate.genome.id if several else out, form)
                for result in recovered
            ]

    def measure_latency(self, device: str | None = None, quiet: bool = False) -> dict[str, Any]:
        """Time the front, the baselines and dense on this machine, and write the report anew.

        Args:
            device: `cpu`, `cuda` or `cuda:N`; the recipe's if None.
            quiet: show no progress on stderr.

        Returns:
            Measured (and predicted) nanoseconds and bytes by id (`export.measuring.finalists.measure_finalists`).
        """
        from sparsesearch.export.measuring.finalists import measure_finalists
        from sparsesearch.report.pages.run_page import write_report

        self.results.require_front()
        with no_progress_bars():
            measured = measure_finalists(self.reopened, Reporter(quiet), device)
        write_report(self.results)
        return measured

    def dashboard(self, host: str = "127.0.0.1", port: int = 8080) -> None:
        """Serve the run with optuna-dashboard until Ctrl-C; a running search is updated."""
        from sparsesearch.report.dashboard import serve

        if not self.results.evaluations:
            raise problem("SS600", f"{self.path} has no measurements yet.", fix=f"See: sparsesearch status {self.path}")
        serve(self.results, host, port)
