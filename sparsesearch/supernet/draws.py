"""The sub-networks that each training step of a supernet runs, which depend only on the step and a seed."""

from __future__ import annotations

import numpy as np

from sparsesearch.arrays import Ints
from sparsesearch.config import SupernetConfig
from sparsesearch.space import Genome, Space

# Chance that a sublayer is dropped if levels are drawn independently; dropping half of all would leave too little.
DROP_CHANCE = 0.25
# Genomes drawn to find one near a target size.
DRAWS_PER_TARGET = 8


class Draws:
    """Draws the sub-networks of every step."""

    def __init__(self, space: Space, options: SupernetConfig, steps: int, seed: int, block: int | None = None) -> None:
        """
        Args:
            space: the space of sub-networks.
            options: the kind of training, and the numbers and sampling of sub-networks.
            steps: number of steps of the training.
            seed: random seed.
            block: index of the only block whose units vary; None for all blocks.
        """
        self.space, self.options, self.steps, self.seed = space, options, steps, seed
        self._varies = np.ones(len(space.units), dtype=bool) if block is None else space.blocks == block

    def at(self, step: int) -> list[Genome]:
        """Return the sub-networks of a step.

        For `sandwich` the first is the dense network and the second the narrowest with all sublayers.
        """
        rng = np.random.default_rng([self.seed, 3, step])
        deepest = self.deepest_levels(step)
        if self.options.kind == "random_linear" and rng.random() >= (step + 0.5) / self.steps:
            return [self.space.dense]
        random = [Genome.of(self._draw(deepest, rng)) for _ in range(self.options.subnets)]
        narrowest = Genome.of(np.where(self.space.drops, 0, deepest))
        ends = [self.space.dense, narrowest] if self.options.kind == "sandwich" else []
        return list(dict.fromkeys([*ends, *random]))

    def networks(self, start: int, stop: int) -> int:
        """Return the total number of sub-networks of the steps from `start` to before `stop`."""
        return sum(len(self.at(step)) for step in range(start, stop))

    def deepest_levels(self, step: int) -> Ints:
        """Return the highest level that each unit may have at a step, (units,).

        For kinds of the current stage it rises over the first half of the stage; kinds of later stages stay dense.
        """
        highest = np.where(self._varies, self.space.max_levels, 0)
        stages = self.options.stages
        if not stages:
            return highest
        stage, progress = divmod(step / max(self.steps, 1) * len(stages), 1.0)
        for number, kinds in enumerate(stages):
            in_stage = np.isin(self.space.kinds, kinds)
            if number == stage:
                opened = np.ceil(highest * min(2 * progress, 1.0) + 1e-9).clip(max=highest)
                highest = np.where(in_stage, opened, highest)
            elif number > stage:
                highest = np.where(in_stage, 0, highest)
        return highest.astype(np.int64)

    def _draw(self, deepest: Ints, rng: np.random.Generator) -> Ints:
        if self.options.sampling == "balanced":
            return self._draw_by_size(deepest, rng)
        if self.options.sampling == "inverse":
            levels = np.array([self._draw_level(i, int(top), rng) for i, top in enumerate(deepest)], dtype=np.int64)
        else:
            levels = rng.integers(0, deepest + 1)
        return np.where(self.space.drops, (deepest > 0) & (rng.random(len(levels)) < DROP_CHANCE), levels)

    def _draw_level(self, unit: int, top: int, rng: np.random.Generator) -> int:
        """Draw a level with a chance inversely proportional to the elements that it keeps."""
        kept = np.maximum(np.array(self.space.units[unit].levels[: top + 1], dtype=float), 1)
        return int(rng.choice(top + 1, p=(1 / kept) / (1 / kept).sum()))

    def _draw_by_size(self, deepest: Ints, rng: np.random.Generator) -> Ints:
        """Draw a number of parameters uniformly, then some genomes, and return the levels of the nearest one."""
        params = self.space.costs.named(np.zeros_like(deepest))["params"], self.space.costs.named(deepest)["params"]
        target = rng.uniform(*sorted(params))
        centres = rng.random((DRAWS_PER_TARGET, 1))
        relative = np.clip(rng.normal(centres, 0.2, (DRAWS_PER_TARGET, len(deepest))), 0, 1)
        levels = np.rint(relative * deepest).astype(np.int64)
        dropped = rng.random(levels.shape) < 2 * DROP_CHANCE * centres
        levels = np.where(self.space.drops, dropped & (deepest > 0), levels)
        sizes = np.array([self.space.costs.named(genome)["params"] for genome in levels])
        return np.asarray(levels[np.abs(sizes - target).argmin()])
