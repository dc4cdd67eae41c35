"""A plug-in that registers one part of every kind, each as `mine`; `test_plugin_kinds.py` names it in recipes."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch

from sparsesearch.allocation import allocation, project
from sparsesearch.bilevel import Decision, Learner, learner
from sparsesearch.evaluation import Targets, quality
from sparsesearch.export import CannotTakeForm, form
from sparsesearch.models import family
from sparsesearch.proxies import CostedGenome, proxy
from sparsesearch.pruning import expert_order, pruner
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.searchers.learned.base import LearnedSearcher
from sparsesearch.searchers.registry import searcher
from sparsesearch.tracking import Tracker, tracker

CALLED: set[str] = set()


@searcher("mine")
class Mine(Searcher):
    """Genomes that generation 0 began with, and then nothing."""

    ends_by_itself = True

    def generation(self, index: int, rng: np.random.Generator) -> list[Proposal]:
        CALLED.add("searcher")
        return [Proposal(g, 0, 0, name) for name, g in self.starting(4).items()] if index == 0 else []


@pruner("mine", of="sparsity")
def weights(layer: Any, options: Any) -> tuple[torch.Tensor, str]:
    """Squared weights."""
    CALLED.add("pruner of weights")
    return layer.weight_OI.square(), "row"


@pruner("mine", of="width", needs_gradients=True)
def elements(group: Any, options: Any) -> torch.Tensor:
    """Squared gradients of what is written."""
    CALLED.add("pruner of elements")
    return torch.stack([writer.gradient_square.sum(dim=(1, 2)) for writer in group.writers]).sum(0)


@expert_order("mine")
def by_tokens(experts: Any) -> torch.Tensor:
    """Those that serve fewest tokens first."""
    CALLED.add("order of experts")
    return experts.tokens.argsort(stable=True)


@allocation("mine", needs=["cosines"])
def first_ones(evidence: Any, sparsity: float, options: Any) -> Any:
    """Earlier matrices keep more; the cosines are looked at alone."""
    CALLED.add("allocation")
    assert evidence.cosines is not None
    return project((1 - sparsity) ** np.linspace(0.5, 1.5, len(evidence.sizes)), evidence.sizes, sparsity)


@proxy("mine", reads="costs")
def few(candidate: CostedGenome) -> float:
    """Nonzeros."""
    CALLED.add("proxy")
    return float(candidate.costs["nonzeros"])


@searcher("learned-mine")
class LearnedMine(LearnedSearcher):
    """Widths in the order of the store, by one number each."""

    method = "mine"
    kinds = ("ffn_width",)


@learner("mine")
class Shares(Learner):
    """Learns nothing: every unit keeps the share that its size allows."""

    returns_weights = False

    def factors(self, step: Any) -> Any:
        CALLED.add("learner")
        self._share = float(step.target.end[0])
        return {name: torch.ones(self.relaxed.shape(unit)) for name, unit in self.units.items()}

    def decide(self, step: Any) -> Decision:
        return Decision({name: self._share * unit.total for name, unit in self.units.items()})


@family("starcoder2", blocks="layers", width_fields={})
def starcoder2(model: Any, builder: Any) -> None:
    """Nothing of it is searched."""
    CALLED.add("family")


@quality("mine")
class Outputs(Targets):
    """Squared difference of mean outputs from the dense model's."""

    tasks: ClassVar[tuple[str, ...]] = ("causal",)
    files = ("means",)

    @classmethod
    def create(cls, directory: Any, samples: Any, shape: tuple[int, int]) -> Targets:
        samples.save(directory / "samples")
        np.save(directory / "means.npy", np.zeros((len(samples), shape[1]), dtype=np.float32))
        return cls(directory, "r+")

    def write(self, rows: slice, outputs: torch.Tensor) -> None:
        self.arrays["means"][rows] = outputs.mean(dim=1).cpu().numpy()

    def losses(self, outputs: torch.Tensor, rows: Any) -> torch.Tensor:
        CALLED.add("quality")
        dense = torch.from_numpy(np.array(self.arrays["means"][rows])).double()
        return (outputs.mean(dim=1).double() - dense).square().sum(dim=1)


@form("mine")
def dense_shapes(supernet: Any, genome: Any) -> Any:
    """The dense network, if that is what the candidate is."""
    CALLED.add("form")
    if genome != supernet.space.dense:
        raise CannotTakeForm("it is not dense")
    return lambda: supernet.materialise(genome)


@tracker("mine")
class Printed(Tracker):
    """Counts points."""

    def __init__(self, results: Any) -> None:
        CALLED.add("tracker")
        self.location, self.count = "nowhere", 0

    def log(self, points: Any) -> None:
        self.count += len(points)

    def close(self) -> None:
        """Nothing is held back."""
