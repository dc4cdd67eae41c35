"""Conformance of learners: the result of a size, and that interrupted learning continues to the same bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sparsesearch.bilevel.chain import Learning, LearningContext, SizeChain
from sparsesearch.bilevel.registry import learner_class
from sparsesearch.config import TrainingConfig
from sparsesearch.models.load import DEMO
from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.searchers.registry import SEARCHERS, create
from sparsesearch.space import Genome, Limit, Space
from sparsesearch.tensors import read_tensors
from sparsesearch.testing.networks import BuiltNetwork

TRAINING = TrainingConfig(batch=2, learning_rate=1e-3, warmup=0)
STEPS = 12


class LearnerCase:
    """A learned searcher on a network whose levels are built.

    Attributes:
        space: that of the network, with the limit.
        searcher, options: the searcher and its options.
    """

    def __init__(self, built: BuiltNetwork, name: str, limit: str, **options: Any) -> None:
        """
        Args:
            name: of the searcher.
            limit: as recipes write it; '' for none.
            options: of the searcher.
        """
        self.built = built
        self.space: Space = built.space.with_limits([Limit.parse(limit)] if limit else [])
        searcher = create(name, self.space, ["kl", "nonzeros"], 0, options)
        assert isinstance(searcher, LearnedSearcher), f"{name} is no LearnedSearcher"
        self.searcher, self.options = searcher, searcher.options
        self.samples = built.launch.samples["calibration"]

    def tokens(self, steps: int) -> int:
        """Return the gradient tokens of a number of steps."""
        return steps * (self.options.lower + 1) * (self.options.batch or TRAINING.batch) * self.samples.length

    def learning(self, directory: Path, steps: int = STEPS, sizes: int = 1) -> Learning:
        """Return the learning of the searcher's size, which continues from the files in a directory.

        Args:
            sizes: how often the size is learned, one after another.
        """
        built, supernet = self.built, self.built.supernet("sliced")
        targets = tuple(self.searcher.targets().items())
        chain = SizeChain("0-0", targets * sizes, self.tokens(steps), 0)
        context = LearningContext(
            supernet,
            self.samples,
            self.samples,
            TRAINING,
            4,
            built.launch.config.pruners.pattern,
            built.supernet("sliced").model,
            torch.float32,
            torch.float32,
            lambda model: [0.0],
        )
        return Learning(chain, self.searcher, context, directory)


def check_learner(
    searcher: str,
    work: Path,
    units: list[dict[str, Any]] | None = None,
    limit: str = "",
    pruners: dict[str, Any] | None = None,
    model: Path = DEMO,
    **options: Any,
) -> None:
    """Check the method of a registered learned searcher.

    - The genome of a size is within the limit, and takes the given number of tokens.
    - Learned weights, if there are any, have the sizes of the genome.
    - Interrupted learning continues to the same bytes.
    - The estimate of its memory is finite.

    Args:
        searcher: name of a `LearnedSearcher`.
        work: an empty directory.
        units, pruners: parts of a recipe; None: FFN widths or, for a method that cannot choose them, sparsity.
        limit: the size to learn; '': 85% of the parameters or nonzeros, or for a method of N:M patterns none.
        model: directory of a small checkpoint.
        options: options of the searcher.

    Raises AssertionError, or InputError if the method cannot take the network, units or options.
    """
    cls = _searcher_class(searcher)
    patterns = learner_class(cls.method).takes_pattern
    widths = "ffn_width" in cls.kinds
    pruners = pruners or ({"pattern": "2:4"} if patterns else {})
    default = {"kind": "sparsity", "levels": ["50%"] if patterns else 8}
    units = units or [{"kind": "ffn_width", "levels": 6} if widths else default]
    limit = limit or ("" if patterns else "params<=85%" if widths else "nonzeros<=85%")
    built = BuiltNetwork(model, work / "store", units=units, pruners=pruners)
    check_learning(LearnerCase(built, searcher, limit, **options), work)


def check_learning(case: LearnerCase, work: Path, used: float = 0.0) -> None:
    """Check a learner on a network whose levels are built already; see `check_learner`.

    Args:
        used: share of what the limit allows that the genome must take, in [0, 1].
    """
    _check_end(case, work / "end", used)
    _check_going_on(case, work)
    _check_footprint(case)


def _searcher_class(name: str) -> type[LearnedSearcher]:
    cls = SEARCHERS.find(name)
    assert issubclass(cls, LearnedSearcher), f"{name} is no LearnedSearcher"
    return cls


def _learned(learning: Learning) -> Learning:
    while not learning.done:
        learning.run_for(1e9)
    return learning


def _check_end(case: LearnerCase, directory: Path, used: float) -> None:
    learning = _learned(case.learning(directory))
    (result,) = learning.chain.results(directory)
    genome = Genome.of(result["genome"])
    assert case.space.feasible(genome), f"the genome is within the limit, got {case.space.describe(genome)}"
    assert not result["stopped"], f"learning goes on to the end, stopped: {result['stopped']}"
    assert result["tokens"] == case.tokens(STEPS), f"all {case.tokens(STEPS)} tokens are used, got {result['tokens']}"
    costs = case.space.costs.named(genome.levels)
    for bound in case.space.bounds:
        assert costs[bound.cost] >= used * bound.maximum, f"{used:.0%} of {bound.text} are used, got {costs}"
    assert ("losses" in result) == learning.learner.returns_weights, "weights of its own are measured"
    if learning.learner.returns_weights:
        state = read_tensors(learning.chain.weights_path(directory, 0), "")
        params, nonzeros = (sum(map(count, state.values())) for count in (torch.numel, _nonzeros))
        assert params == costs["params"], f"its weights are {params}, the genome's {costs['params']}"
        assert nonzeros <= costs["nonzeros"], f"its nonzeros are {nonzeros}, the genome's {costs['nonzeros']}"


def _nonzeros(tensor: torch.Tensor) -> int:
    return int((tensor != 0).sum())


def _check_going_on(case: LearnerCase, work: Path) -> None:
    """Two sizes at once, and with a fresh process for each step."""
    at_once, in_steps = work / "at_once", work / "in_steps"
    whole = _learned(case.learning(at_once, steps=3, sizes=2))
    parts = case.learning(in_steps, steps=3, sizes=2)
    while not parts.done:
        parts.run_for(0)
        parts = case.learning(in_steps, steps=3, sizes=2)
    for number in range(2):
        first, second = (whole.chain.result_path(directory, number).read_bytes() for directory in (at_once, in_steps))
        assert first == second, f"size {number} ends alike after interruptions"
        if whole.learner.returns_weights:
            weights = [whole.chain.weights_path(directory, number).read_bytes() for directory in (at_once, in_steps)]
            assert weights[0] == weights[1], f"size {number} has the same weights after interruptions"


def _check_footprint(case: LearnerCase) -> None:
    launch = case.built.launch
    cls, pattern = learner_class(case.searcher.method), launch.config.pruners.pattern
    footprint = cls.footprint(case.space, launch.network, case.options, pattern)
    assert all(0 <= value < 1e15 for value in footprint), f"its memory is a number of bytes, got {footprint}"
