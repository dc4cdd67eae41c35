"""The seam between the loop and the methods: what is learned, what it opens, and what it ends as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import torch

from sparsesearch.bilevel.expected import Chances, ExpectedCost, between
from sparsesearch.bilevel.levels import prunable_weights
from sparsesearch.bilevel.relaxed import Openings, Relaxed
from sparsesearch.models.network import Network
from sparsesearch.registry import Registry
from sparsesearch.space import Space, Unit
from sparsesearch.supernet.store import UnitFiles

State = dict[str, torch.Tensor]
FLOAT_BYTES = 4


class Size:
    """What is to be reached: the bounds of a space, approached from where the size before ended.

    Attributes:
        name: as the user wrote it.
        names: of the costs that are bounded.
        start, end: shares of the dense costs, one for each bound.
    """

    def __init__(self, name: str, space: Space, before: Size | None = None) -> None:
        self.name, self.space = name, space
        self.names = [bound.cost for bound in space.bounds]
        self.costs = [ExpectedCost(space, name) for name in self.names]
        self.end = [b.maximum / c.dense for b, c in zip(space.bounds, self.costs, strict=True)]
        reached = {} if before is None else dict(zip(before.names, before.end, strict=True))
        self.start = [reached.get(name, 1.0) for name in self.names]

    def shares(self, chances: Chances) -> torch.Tensor:
        """Expected shares of the dense costs, (bounds,)."""
        return torch.stack([cost(chances) for cost in self.costs])

    def wanted(self, ramped: float) -> torch.Tensor:
        """The shares to reach where a part `ramped`, in [0, 1], of the way is behind, (bounds,)."""
        pairs = zip(self.start, self.end, strict=True)
        return torch.tensor([first + (last - first) * min(ramped, 1.0) for first, last in pairs], dtype=torch.float64)


@dataclass(frozen=True)
class Moment:
    """Where a learning stands.

    Attributes:
        done: share of the steps that are behind, in [0, 1].
        ramped: share of the way to the size, in [0, 1].
        stride: share of that way that one step goes.
        generator: for everything random of this step.
    """

    size: Size
    done: float
    ramped: float
    stride: float
    generator: torch.Generator

    @property
    def wanted(self) -> torch.Tensor:
        """The shares of dense costs to reach by now, (bounds,)."""
        return self.size.wanted(self.ramped)

    def between(self, first: float, last: float) -> float:
        """A number that goes linearly from the first step to the last."""
        return first + (last - first) * self.done


@dataclass(frozen=True)
class Decision:
    """What a choice ends as.

    Attributes:
        kept: elements to keep of each unit, by name; any real number.
        scores: which of them, the highest, in the shapes of openings; units without keep what the store keeps.
        weights: parameters that are not what they were, by name.
    """

    kept: dict[str, float]
    scores: State = field(default_factory=dict)
    weights: State = field(default_factory=dict)


class Footprint(NamedTuple):
    """Memory that a method takes beside the network; an estimate.

    Attributes:
        learned: numbers that are learned; gradient and moments of each come on top.
        masks: bytes of masks and of what they are made of.
    """

    learned: float
    masks: float


class Learner(ABC):
    """A method: parameters of a choice, and what the network is while they are learned.

    Attributes:
        local: whether the loss is that of each block on its own inputs.
        carries: whether it ends with weights or masks of its own, not only with a genome.
        takes_pattern: whether it chooses among the patterns of N:M groups; its constructor then takes the recipe's
            pattern after the seed, and no other method may be given one.
        learns_each_weight: whether it learns a number for each weight that can be pruned.
        soft_numbers: numbers that are made of each weight that can be pruned on the way to its mask, and that the
            backward pass needs; of the methods here as measured on llama-7m (results/benchmarks/bilevel).
    """

    local: bool = False
    carries: bool = True
    takes_pattern: ClassVar[bool] = False
    learns_each_weight: ClassVar[bool] = False
    soft_numbers: ClassVar[int] = 0

    @classmethod
    def footprint(cls, space: Space, network: Network, options: Any, pattern: str | None) -> Footprint:
        """Return the memory that it will take.

        Args:
            options: of the searcher.
            pattern: N:M of the recipe.
        """
        weights = sum(prunable_weights(space, network).values())
        numbers = float(weights) if cls.learns_each_weight else 0.0
        return Footprint(numbers, float(cls.soft_numbers * FLOAT_BYTES * weights))

    def __init__(self, relaxed: Relaxed, files: UnitFiles, options: Any, seed: int) -> None:
        """
        Args:
            files: levels of the store, for methods that choose among these.
            options: of the searcher.
        """
        self.relaxed, self.files, self.options, self.seed = relaxed, files, options, seed
        self.units: dict[str, Unit] = relaxed.units
        self.device = next(iter(relaxed.weights.own.values())).device
        # What is learned by descent; what rises by gradient ascent (multipliers); what is only kept, by name.
        self.parameters: State = {}
        self.multipliers: State = {}
        self.kept_beside: State = {}

    def begin(self, size: Size) -> None:
        """A size begins; called once for each, before its first step."""

    @abstractmethod
    def openings(self, moment: Moment) -> Openings:
        """What is open at this step, differentiable in what is learned."""

    def chances(self) -> Chances:
        """Expected levels of every unit; for methods whose cost is a loss."""
        raise NotImplementedError

    def penalty(self, moment: Moment) -> torch.Tensor | None:
        """What is added to the loss of a step on the choice."""
        return None

    def gradients(self, loss: torch.Tensor, tensors: State) -> State:
        """Gradients of the parameters, by name; multipliers have theirs in the same graph.

        Args:
            loss: with the penalty.
            tensors: what the network ran with.
        """
        return gradients_of(loss, self.parameters | self.multipliers)

    def optimizer(self, parameters: list[torch.Tensor]) -> torch.optim.Optimizer:
        """Of what is learned."""
        return torch.optim.Adam(parameters, lr=self.options.learning_rate)

    def project(self, moment: Moment) -> None:
        """After a step on the choice: back into what is allowed."""

    def weights_stepped(self, moment: Moment, before: Mapping[str, torch.Tensor]) -> None:
        """After a step on the weights.

        Args:
            before: values of the parameters in `remembers`, before the step.
        """

    @property
    def remembers(self) -> list[str]:
        """Names of parameters whose values before a step `weights_stepped` reads."""
        return []

    @abstractmethod
    def decide(self, moment: Moment) -> Decision:
        """The choice at the end of a size."""

    def note(self) -> str:
        """What a user should know of how the size went; empty where there is nothing."""
        return ""

    def counted(self, name: str, values: torch.Tensor) -> torch.Tensor:
        """The sum over a unit's elements; of a cut of several orders, which keep equally many, that of one order."""
        return values.sum() / (len(values) if self.units[name].is_cut else 1)

    def chances_of(self, kept: Mapping[str, torch.Tensor]) -> Chances:
        """Chances of the levels around numbers of kept elements (of each order)."""
        return {name: between(unit, kept[name]) for name, unit in self.units.items()}


LEARNERS: Registry[type[Learner]] = Registry("learner", base=Learner)


def learner(method: str) -> Callable[[type[Learner]], type[Learner]]:
    """Register a subclass of `Learner` as a method, by the `method` of the `LearnedSearcher` whose options it reads."""
    return LEARNERS.register(method)


def gradients_of(loss: torch.Tensor, wanted: Mapping[str, torch.Tensor]) -> State:
    """Gradients by name, zero where the loss does not depend on something; none where there is nothing to move."""
    if not wanted or not loss.requires_grad:
        return {name: torch.zeros_like(tensor) for name, tensor in wanted.items()}
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {
        name: torch.zeros_like(tensor) if gradient is None else gradient
        for (name, tensor), gradient in zip(wanted.items(), found, strict=True)
    }


def learned(tensor: torch.Tensor) -> torch.Tensor:
    """The start of a parameter."""
    return tensor.detach().clone().float().requires_grad_(True)
