"""Proxies on one worker: tables of matrix proxies, block by block, and scores of network proxies."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

import torch

from sparsesearch.calibration import calibration_pass
from sparsesearch.calibration.gradients import collect_curvature, collect_gradients, load_curvature, load_gradients
from sparsesearch.calibration.statistics import load_cosine_and_angle, load_statistics
from sparsesearch.data import Samples
from sparsesearch.evaluation import Evaluator
from sparsesearch.models.network import Matrix
from sparsesearch.plugins import describe_value
from sparsesearch.proxies.base import Proxy
from sparsesearch.proxies.proxy_inputs import Live, PrunedMatrix
from sparsesearch.proxies.score_table import Tabulated
from sparsesearch.space import Genome
from sparsesearch.supernet import StitchedSupernet
from sparsesearch.supernet.compose import TensorLevels
from sparsesearch.supernet.propagate import propagated_weights

# Calibration samples that a candidate is scored on by proxies that run it.
SAMPLES = 16
# Those that second derivatives are taken of: each takes several times as long as a gradient.
CURVED = 64


class Gatherer:
    """What proxies need of the dense network, measured once and kept on disk beside its calibration statistics."""

    def __init__(
        self, supernet: StitchedSupernet, samples: Samples, statistics: Path, gradients: Path, store: Path, batch: int
    ) -> None:
        """
        Args:
            samples: calibration data.
            statistics, store: directories of the calibration pass and of the level store.
            gradients: file of the gradient pass.
        """
        self.supernet, self.samples, self.batch = supernet, samples, batch
        self.statistics, self.expected = statistics, store / "expected"
        self.gradients, self.curvature = gradients, gradients.with_name("curvature.safetensors")

    def gather(self, needs: Collection[str]) -> None:
        """Measure what is wanted and not there yet; the network must be dense."""
        model, network = self.supernet.model, self.supernet.network
        if {"gradients", "curvature"} & set(needs):
            collect_gradients(model, network, self.samples, self.gradients)
        if "curvature" in needs:
            few = self.samples.rows(slice(0, CURVED))
            collect_curvature(model, network, few, self.gradients, self.curvature)
        if "expected" in needs:
            self._expect(model)

    def _expect(self, model: Any) -> None:
        network, done = self.supernet.network, self.expected / "done"
        if done.exists():
            return
        passing = calibration_pass(model, network, self.samples, self.expected, self.batch)
        for block in range(len(network.blocks)):
            passing.collect(block)
            with propagated_weights(self.supernet.composer, "expectation", block):
                passing.advance(block)
        passing.close()
        done.touch()


# By matrix; a text where the proxy failed.
Tables = dict[str, Tabulated] | str


def tabulate(gathered: Gatherer, block: int, proxies: Sequence[Proxy]) -> dict[str, Tables]:
    """Scores of all levels of a block's matrices, by proxy."""
    composer = gathered.supernet.composer
    tables: dict[str, dict[str, Tabulated]] = {proxy.name: {} for proxy in proxies}
    failures: dict[str, str] = {}
    needs = {need for proxy in proxies for need in proxy.needs}
    given = _Given(gathered, block, needs)
    for matrix in composer.network.matrices.values():
        if matrix.block != block:
            continue
        rows: dict[str, list[float]] = {proxy.name: [] for proxy in proxies}
        for pruned in given.combinations(matrix):
            for proxy in proxies:
                score = scored_by(proxy, pruned)
                if isinstance(score, str):
                    failures[proxy.name] = score
                else:
                    rows[proxy.name].append(score)
        for name in rows.keys() - failures.keys():
            tables[name][matrix.name] = Tabulated(rows[name][:-1], rows[name][-1])
    return tables | failures


def scored_by(proxy: Proxy, given: Any) -> float | str:
    """A score; what a proxy fails with is a text, as one proxy must not end an audit."""
    try:
        return as_number(proxy, proxy.score(given))
    except (Exception, SystemExit) as error:  # whatever other people's code raises
        return _failure(error)


def _failure(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def as_number(proxy: Proxy, value: Any) -> float:
    """A score; raises ValueError where it is not one real number."""
    one = tuple(getattr(value, "shape", ())) in ((), (1,)) and (hasattr(value, "shape") or isinstance(value, Real))
    number = float(value) if one else math.nan
    if math.isnan(number):
        raise ValueError(f"proxy {proxy.name} returned {describe_value(value)}, not one number")
    return number


class _Given:
    """What is known of the matrices of one block."""

    def __init__(self, gathered: Gatherer, block: int, needs: Collection[str]) -> None:
        self.composer = gathered.supernet.composer
        self.inputs = load_statistics(gathered.statistics, block)
        self.expected = load_statistics(gathered.expected, block) if "expected" in needs else {}
        self.turn = 1 - load_cosine_and_angle(gathered.statistics, block)[0]
        self.gradients = load_gradients(gathered.gradients) if "gradients" in needs else {}
        self.curvature = load_curvature(gathered.curvature) if "curvature" in needs else {}

    def combinations(self, matrix: Matrix) -> Iterator[PrunedMatrix]:
        """The matrix at every combination of levels; at last dropped."""
        name = matrix.name
        for levels in self.composer.combinations(name):
            yield self._pruned(matrix, self.composer.padded_weight(name, levels), self._narrowed(name, levels))
        nothing = torch.zeros_like(self.composer.dense[name])
        yield self._pruned(matrix, nothing, nothing)

    def _narrowed(self, name: str, levels: TensorLevels) -> torch.Tensor:
        uses = self.composer.plans[name].uses
        inward = [level if use.reader >= 0 else 0 for use, level in zip(uses, levels[1:], strict=True)]
        return self.composer.padded_weight(name, (levels[0], *inward))

    def _pruned(self, matrix: Matrix, pruned: torch.Tensor, narrowed: torch.Tensor) -> PrunedMatrix:
        dense = self.composer.dense[matrix.name]

        def view(tensor: torch.Tensor) -> torch.Tensor:
            return matrix.view(tensor.to(dense.device).float())

        gradient, square = (view(g) for g in self.gradients[matrix.name]) if self.gradients else (None, None)
        expected = self.expected.get(matrix.reads)
        return PrunedMatrix(
            matrix.name,
            view(dense),
            view(pruned),
            view(narrowed),
            self.inputs[matrix.reads].to(dense.device),
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
            samples: calibration data, of whose first `SAMPLES` every candidate is given the same.
        """
        self.evaluator, self.samples = evaluator, samples.rows(slice(0, SAMPLES))
        self._dense: dict[str, Any] = {}

    def scores(self, genome: Genome, proxies: Sequence[Proxy]) -> dict[str, float | str]:
        """By proxy; what a proxy fails with is a text."""
        return {proxy.name: self._score(genome, proxy) for proxy in proxies}

    def _score(self, genome: Genome, proxy: Proxy) -> float | str:
        try:
            reference = self._reference(proxy)
        except (Exception, SystemExit) as error:
            return _failure(error)
        return scored_by(proxy, self._live(genome, reference))

    def _reference(self, proxy: Proxy) -> Any:
        """What the proxy measures on the dense network, once."""
        if proxy.prepare is not None and proxy.name not in self._dense:
            self._dense[proxy.name] = proxy.prepare(self._live(self.evaluator.supernet.space.dense))
        return self._dense.get(proxy.name)

    def _live(self, genome: Genome, dense: Any = None) -> Live:
        model, supernet = self.evaluator.ready(genome), self.evaluator.supernet
        return Live(model, supernet.network, genome, self.samples, supernet.composer, dense)
