"""Proxies on one worker: tables of matrix proxies, block by block, and scores of network proxies."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import torch

from sparsesearch.calibration import calibration_pass
from sparsesearch.calibration.gradients import collect_curvature, collect_gradients, load_curvature, load_gradients
from sparsesearch.calibration.statistics import load_cosine_and_angle, load_statistics
from sparsesearch.data import Samples
from sparsesearch.evaluation import Evaluator
from sparsesearch.models.network import Matrix
from sparsesearch.plugins import describe_value
from sparsesearch.proxies.base import Proxy
from sparsesearch.proxies.proxy_inputs import LiveCandidate, PrunedMatrix
from sparsesearch.proxies.score_table import MatrixScores
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.compose import TensorLevels
from sparsesearch.supernet.propagate import propagated_weights

Returned = TypeVar("Returned")

# Calibration samples of proxies that run the candidate.
SAMPLES_PER_CANDIDATE = 16
# Calibration samples of second derivatives, each of which takes several times as long as a gradient.
CURVATURE_SAMPLES = 64


class Gatherer:
    """Measures what proxies need of the dense network, once, and keeps it on disk beside the calibration statistics."""

    def __init__(
        self, supernet: StitchedSupernet, samples: Samples, statistics: Path, gradients: Path, store: Path, batch: int
    ) -> None:
        """
        Args:
            supernet: the supernet, which holds the dense network.
            samples: calibration data.
            statistics, store: directories of the calibration pass and of the level store.
            gradients: file of the gradient pass.
            batch: samples of a forward pass.
        """
        self.supernet, self.samples, self.batch = supernet, samples, batch
        self.statistics, self.expected = statistics, store / "expected"
        self.gradients, self.curvature = gradients, gradients.with_name("curvature.safetensors")

    def gather(self, needs: Collection[str]) -> None:
        """Make the measurements named in `needs` that are missing; the network must be dense."""
        model, network = self.supernet.model, self.supernet.network
        if {"gradients", "curvature"} & set(needs):
            collect_gradients(model, network, self.samples, self.gradients)
        if "curvature" in needs:
            samples = self.samples.rows(slice(0, CURVATURE_SAMPLES))
            collect_curvature(model, network, samples, self.gradients, self.curvature)
        if "expected" in needs:
            self._collect_expected(model)

    def _collect_expected(self, model: Any) -> None:
        network, done = self.supernet.network, self.expected / "done"
        if done.exists():
            return
        block_pass = calibration_pass(model, network, self.samples, self.expected, self.batch)
        for block in range(len(network.blocks)):
            block_pass.collect(block)
            with propagated_weights(self.supernet.composer, "expectation", block):
                block_pass.advance(block)
        block_pass.close()
        done.touch()


@dataclass(frozen=True)
class Failure:
    """A proxy that raised an error, or returned no number; `reason` is for reports."""

    reason: str


Score = float | Failure
# Scores of all levels, by matrix.
Tables = dict[str, MatrixScores] | Failure


def tabulate(gatherer: Gatherer, block: int, proxies: Sequence[Proxy]) -> dict[str, Tables]:
    """Return scores of all levels of a block's matrices, by proxy."""
    composer = gatherer.supernet.composer
    tables: dict[str, dict[str, MatrixScores]] = {proxy.name: {} for proxy in proxies}
    failures: dict[str, Failure] = {}
    needs = {need for proxy in proxies for need in proxy.needs}
    measurements = _BlockMeasurements(gatherer, block, needs)
    for matrix in composer.network.matrices.values():
        if matrix.block != block:
            continue
        rows: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
        for pruned in measurements.combinations(matrix):
            for proxy in proxies:
                score = score_with(proxy, pruned)
                if isinstance(score, Failure):
                    failures[proxy.name] = score
                else:
                    rows[proxy.name].append(score)
        for name in rows.keys() - failures.keys():
            tables[name][matrix.name] = MatrixScores(rows[name][:-1], rows[name][-1])
    return tables | failures


def score_with(proxy: Proxy, candidate: Any) -> Score:
    """Return a proxy's score, or its failure, since one failing proxy must not end an audit."""
    return _attempt(lambda: as_number(proxy, proxy.score(candidate)))


def _attempt(call: Callable[[], Returned]) -> Returned | Failure:
    try:
        return call()
    except (Exception, SystemExit) as error:  # plug-ins may raise anything
        return Failure(f"{type(error).__name__}: {error}")


def as_number(proxy: Proxy, value: Any) -> float:
    """Return a score as a float; raises ValueError if it is not one real number."""
    is_scalar = tuple(getattr(value, "shape", ())) in ((), (1,)) and (
        hasattr(value, "shape") or isinstance(value, Real)
    )
    number = float(value) if is_scalar else math.nan
    if math.isnan(number):
        raise ValueError(f"proxy {proxy.name} returned {describe_value(value)}, not one number")
    return number


class _BlockMeasurements:
    """Measurements on the matrices of one block."""

    def __init__(self, gatherer: Gatherer, block: int, needs: Collection[str]) -> None:
        self.composer = gatherer.supernet.composer
        self.inputs = load_statistics(gatherer.statistics, block)
        self.expected = load_statistics(gatherer.expected, block) if "expected" in needs else {}
        self.turn = 1 - load_cosine_and_angle(gatherer.statistics, block)[0]
        self.gradients = load_gradients(gatherer.gradients) if "gradients" in needs else {}
        self.curvature = load_curvature(gatherer.curvature) if "curvature" in needs else {}

    def combinations(self, matrix: Matrix) -> Iterator[PrunedMatrix]:
        """Yield the matrix at every combination of levels, and at last dropped."""
        name = matrix.name
        for levels in self.composer.combinations(name):
            yield self._pruned_matrix(matrix, self.composer.padded_weight(name, levels), self._narrow(name, levels))
        zeros = torch.zeros_like(self.composer.dense[name])
        yield self._pruned_matrix(matrix, zeros, zeros)

    def _narrow(self, name: str, levels: TensorLevels) -> torch.Tensor:
        uses = self.composer.plans[name].uses
        input_levels = [level if use.reader >= 0 else 0 for use, level in zip(uses, levels[1:], strict=True)]
        return self.composer.padded_weight(name, (levels[0], *input_levels))

    def _pruned_matrix(self, matrix: Matrix, pruned: torch.Tensor, narrowed: torch.Tensor) -> PrunedMatrix:
        dense = self.composer.dense[matrix.name]

        def view(tensor: torch.Tensor) -> torch.Tensor:
            return matrix.view(tensor.to(dense.device).float())

        gradient, square = (view(g) for g in self.gradients[matrix.name]) if self.gradients else (None, None)
        expected = self.expected.get(matrix.input_key)
        return PrunedMatrix(
            matrix.name,
            view(dense),
            view(pruned),
            view(narrowed),
            self.inputs[matrix.input_key].to(dense.device),
            self.turn,
            gradient,
            square,
            view(self.curvature[matrix.name]) if self.curvature else None,
            None if expected is None else expected.to(dense.device),
        )


class NetworkScorer:
    """Scores candidates by proxies that run the network."""

    def __init__(self, evaluator: Evaluator, samples: Samples) -> None:
        """
        Args:
            evaluator: turns the network into candidates.
            samples: calibration data, of which every candidate uses the first `SAMPLES_PER_CANDIDATE`.
        """
        self.evaluator, self.samples = evaluator, samples.rows(slice(0, SAMPLES_PER_CANDIDATE))
        self._dense: dict[str, Any] = {}

    def scores(self, genome: Genome, proxies: Sequence[Proxy]) -> dict[str, Score]:
        """Return the score, or the failure, of each proxy by name."""
        return {proxy.name: self._score(genome, proxy) for proxy in proxies}

    def _score(self, genome: Genome, proxy: Proxy) -> Score:
        reference = _attempt(lambda: self._reference(proxy))
        return reference if isinstance(reference, Failure) else score_with(proxy, self._make_live(genome, reference))

    def _reference(self, proxy: Proxy) -> Any:
        """Return the proxy's measurement on the dense network, made once."""
        if proxy.prepare is not None and proxy.name not in self._dense:
            self._dense[proxy.name] = proxy.prepare(self._make_live(self.evaluator.supernet.space.dense))
        return self._dense.get(proxy.name)

    def _make_live(self, genome: Genome, dense: Any = None) -> LiveCandidate:
        model, supernet = self.evaluator.prepare(genome), self.evaluator.supernet
        return LiveCandidate(model, supernet.network, genome, self.samples, supernet.composer, dense)
