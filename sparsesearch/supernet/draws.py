"""Which sub-networks each training step of a supernet runs: a function of the step and a seed alone."""

from __future__ import annotations

import numpy as np

from sparsesearch.arrays import Ints
from sparsesearch.config import SupernetConfig
from sparsesearch.space import Genome, Space

# Chance that a sublayer is dropped where levels are drawn one by one; half of them would be no network.
DROPPED = 0.25
# Genomes drawn for one of a wanted size.
TRIES = 8


class Draws:
    """The sub-networks of every step."""

    def __init__(self, space: Space, options: SupernetConfig, steps: int, seed: int, block: int | None = None) -> None:
        """
        Args:
            steps: of the whole training.
            block: the one block whose units vary; all where None.
        """
        self.space, self.options, self.steps, self.seed = space, options, steps, seed
        self._mine = np.ones(len(space.units), dtype=bool) if block is None else space.blocks == block

    def at(self, step: int) -> list[Genome]:
        """Those of a step: for sandwich the largest first and then the narrowest, which still has all sublayers."""
        rng = np.random.default_rng([self.seed, 3, step])
        deepest = self.deepest(step)
        if self.options.kind == "random_linear" and rng.random() >= (step + 0.5) / self.steps:
            return [self.space.dense]
        drawn = [Genome.of(self._drawn(deepest, rng)) for _ in range(self.options.subnets)]
        narrowest = Genome.of(np.where(self.space.drops, 0, deepest))
        ends = [self.space.dense, narrowest] if self.options.kind == "sandwich" else []
        return list(dict.fromkeys([*ends, *drawn]))

    def networks(self, start: int, stop: int) -> int:
        """Sub-networks of some steps together."""
        return sum(len(self.at(step)) for step in range(start, stop))

    def deepest(self, step: int) -> Ints:
        """The highest level that each unit may have at a step, (units,).

        Kinds of the current stage open level by level over its first half, those of later ones are dense.
        """
        highest = np.where(self._mine, self.space.max_levels, 0)
        stages = self.options.stages
        if not stages:
            return highest
        now, within = divmod(step / max(self.steps, 1) * len(stages), 1.0)
        for number, kinds in enumerate(stages):
            mine = np.isin(self.space.kinds, kinds)
            if number == now:
                highest = np.where(mine, np.ceil(highest * min(2 * within, 1.0) + 1e-9).clip(max=highest), highest)
            elif number > now:
                highest = np.where(mine, 0, highest)
        return highest.astype(np.int64)

    def _drawn(self, deepest: Ints, rng: np.random.Generator) -> Ints:
        if self.options.sampling == "balanced":
            return self._of_some_size(deepest, rng)
        if self.options.sampling == "inverse":
            levels = np.array([self._inversely(i, int(top), rng) for i, top in enumerate(deepest)], dtype=np.int64)
        else:
            levels = rng.integers(0, deepest + 1)
        return np.where(self.space.drops, (deepest > 0) & (rng.random(len(levels)) < DROPPED), levels)

    def _inversely(self, unit: int, top: int, rng: np.random.Generator) -> int:
        """A level, each with a chance that falls with what it keeps."""
        kept = np.maximum(np.array(self.space.units[unit].levels[: top + 1], dtype=float), 1)
        return int(rng.choice(top + 1, p=(1 / kept) / (1 / kept).sum()))

    def _of_some_size(self, deepest: Ints, rng: np.random.Generator) -> Ints:
        """Levels of a network whose parameters are drawn evenly between the smallest and all: the nearest of some."""
        params = self.space.costs.named(np.zeros_like(deepest))["params"], self.space.costs.named(deepest)["params"]
        wanted = rng.uniform(*sorted(params))
        centres = rng.random((TRIES, 1))
        levels = np.rint(np.clip(rng.normal(centres, 0.2, (TRIES, len(deepest))), 0, 1) * deepest).astype(np.int64)
        dropped = rng.random(levels.shape) < 2 * DROPPED * centres
        levels = np.where(self.space.drops, dropped & (deepest > 0), levels)
        sizes = np.array([self.space.costs.named(one)["params"] for one in levels])
        found: Ints = levels[np.abs(sizes - wanted).argmin()]
        return found
