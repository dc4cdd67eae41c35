"""Measured latency and memory of a run's finalists, and what the latency table predicted."""

from __future__ import annotations

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch

from sparsesearch.data import Samples
from sparsesearch.engine.reopen import ReopenedRun
from sparsesearch.errors import InputError
from sparsesearch.latency import LatencyTable, Setting, setting_of
from sparsesearch.latency.pieces import request_inputs, run_request
from sparsesearch.latency.table import hardware_of
from sparsesearch.latency.timing import TimedCall, inference_threads, peak_bytes, time_against
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.space import Genome

DENSE, SETTING = "dense", "setting"


def measure_finalists(reopened: ReopenedRun, reporter: Reporter, device: str | None = None) -> dict[str, Any]:
    """Time the front, the baselines and dense, interleaved, and write `latency_measured.json` into the run.

    Args:
        device: replaces the recipe's device; there are no predictions for another one.

    Returns:
        By id, and for `dense`: `measured_ns`, `measured_bytes` (the peak of a request, with the weights) and, for runs
        with a latency table, `predicted_ns` and `predicted_bytes`; under `setting` the request and the device.

    Raises InputError SS123 if this machine does not have the device.
    """
    results = reopened.results
    setting = _setting(reopened)
    predicts = device is None or device == setting.device
    if device is not None:
        setting = replace(setting, device=device, hardware=hardware_of(device))
    genomes = {e.genome.id: e.genome for e in [*results.front, *results.baselines] if e.genome != results.space.dense}
    report: dict[str, Any] = {SETTING: asdict(setting)}
    samples = results.run.samples("calibration")
    with inference_threads(setting.threads):
        reporter.phase(f"measuring finalists on {setting.hardware}", len(genomes))
        held: dict[str, int] = {}

        def prepare(name: str, genome: Genome) -> TimedCall:
            run, weights = _request(reopened, genome, setting, samples)
            held[name] = weights + peak_bytes(run, setting.device)
            reporter.step(len(held) - 1)
            return run

        dense = prepare(DENSE, results.space.dense)
        makers = [partial(prepare, name, genome) for name, genome in genomes.items()]
        times = time_against(dense, makers, setting.device, held[DENSE])
    for (name, genome), ns in zip([(DENSE, results.space.dense), *genomes.items()], times, strict=True):
        predicted = _predict(results, genome) if predicts else {}
        report[name] = {"measured_ns": ns, "measured_bytes": held[name]} | predicted
    reporter.end()
    results.run.write(results.run.latency_measured, report)
    return report


def is_measurable_here(results: RunResults) -> bool:
    """Return whether the run has a latency table that was measured on this machine's device."""
    if not results.run.latency.exists():
        return False
    setting = LatencyTable.read(results.run.latency).setting
    try:
        return hardware_of(setting.device) == setting.hardware
    except InputError:
        return False


def _setting(reopened: ReopenedRun) -> Setting:
    results, launch = reopened.results, reopened.launch
    if results.run.latency.exists():
        setting = LatencyTable.read(results.run.latency).setting
        return replace(setting, hardware=hardware_of(setting.device))
    return setting_of(launch.config.latency, launch.network, launch.source.storage)


def _request(reopened: ReopenedRun, genome: Genome, setting: Setting, samples: Samples) -> tuple[TimedCall, int]:
    """Return a request to a candidate, and the bytes of its weights."""
    task = reopened.launch.network.task
    network = reopened.supernet.materialise(genome).to(setting.device, getattr(torch, setting.dtype)).eval()
    inputs = request_inputs(samples, task, setting, network)
    weights = sum(p.numel() * p.element_size() for p in network.parameters())
    return lambda: run_request(network, task, inputs, setting.generated), weights


def _predict(results: RunResults, genome: Genome) -> dict[str, int]:
    costs = results.space.costs.named(genome.levels)
    predictions = {"predicted_ns": "latency_ns", "predicted_bytes": "memory_bytes"}
    return {name: costs[cost] for name, cost in predictions.items() if cost in costs}
