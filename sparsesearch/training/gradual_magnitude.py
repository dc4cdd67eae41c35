"""Pruning by magnitude while training, without a search: the baselines that a search and its recovery have to beat.

All prune globally over the matrices of a network, to an exact number of weights, and train on the same steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from sparsesearch.evaluation.batchnorm import batch_norms
from sparsesearch.models.network import Network
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.masks import Masks
from sparsesearch.training.trainee import Whole

State = dict[str, torch.Tensor]
# Starts a training run of a network inside masks for a number of steps.
Start = Callable[[Any, Masks, int], TrainingRun]
# Times that gradual pruning prunes, and the share of all steps after which it has ended.
TIMES, ENDED = 20, 0.75


def all_there(model: Any, network: Network) -> Masks:
    """Masks of all matrices that prune nothing yet."""
    own = dict(model.named_parameters())
    return Masks({name: torch.ones_like(own[name], dtype=torch.bool) for name in network.matrices if name in own})


def keep_largest(model: Any, masks: Masks, count: int) -> None:
    """Keep the `count` largest weights among those that are there.

    Exactly so many stay, whatever ties there are; never more than there were.
    """
    there = {name: kept.clone() for name, kept in masks.kept.items()}
    chosen = _largest([model.get_parameter(name).detach().abs()[kept] for name, kept in there.items()], count)
    for (name, kept), mine in zip(there.items(), chosen, strict=True):
        masks.kept[name][kept] = mine
    masks.hold(model)


def grow_largest(masks: Masks, count: int, gradients: State) -> None:
    """Bring back the `count` pruned weights of the largest gradients; they start at zero."""
    missing = {name: ~kept for name, kept in masks.kept.items()}
    chosen = _largest([gradients[name].abs()[gone] for name, gone in missing.items()], count)
    for (name, gone), mine in zip(missing.items(), chosen, strict=True):
        masks.kept[name][gone] = mine


def _largest(parts: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    """Which entries are among the `count` largest of all parts, bool, each (entries,)."""
    flat = torch.cat(parts)
    chosen = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    chosen[flat.topk(min(count, len(flat))).indices] = True
    return list(torch.split(chosen, [len(part) for part in parts]))


def kept_at(done: float, size: int, kept: int) -> int:
    """Weights left where a share `done` of the pruning is behind: the cubic schedule of Zhu & Gupta (2017), eq. 1."""
    return kept + round((size - kept) * (1 - min(done, 1.0)) ** 3)


def gradual(start: Start, model: Any, network: Network, kept: int, steps: int, regrow: float = 0.0) -> Any:
    """Gradual magnitude pruning (Zhu & Gupta, 2017); with `regrow` GraNet (Liu et al., 2021, algorithm 1).

    Args:
        start: of the training run.
        model: trained in place.
        kept: weights of the matrices that are left in the end.
        steps: of training.
        regrow: share of the weights there that are removed beyond the schedule and grown back elsewhere by gradient, in
            [0, 1), annealed to zero along a cosine.
    """
    masks = all_there(model, network)
    size = sum(mask.numel() for mask in masks.kept.values())
    run = start(model, masks, steps)
    for time in range(1, TIMES + 1):
        run.run(round(time / TIMES * ENDED * steps))
        left = kept_at(time / TIMES, size, kept)
        swapped = round(left * regrow * (1 + math.cos(math.pi * time / TIMES)) / 2)
        gradients = _gradients(run, masks) if swapped else {}
        keep_largest(model, masks, left - swapped)
        if swapped:
            grow_largest(masks, swapped, gradients)
    run.run(steps)
    return run.trained.merged()


def _gradients(run: TrainingRun, masks: Masks) -> State:
    """Gradients of the next minibatch at all weights, pruned ones among them."""
    run.gradients()
    found = {name: run.trained.model.get_parameter(name).grad for name in masks.kept}
    return {name: gradient.clone() for name, gradient in found.items()}


def rewound(start: Start, model: Any, network: Network, kept: int, steps: int, rounds: int, rewind: int) -> Any:
    """Iterative magnitude pruning with rewinding (Frankle et al., 2020): train, prune, rewind, in rounds.

    Args:
        start, model, kept: as in `gradual`.
        steps: of all rounds together; each takes an equal share.
        rounds: each leaves the same share of the weights.
        rewind: step of the first round that weights go back to.
    """
    masks = all_there(model, network)
    size, each = sum(mask.numel() for mask in masks.kept.values()), steps // (rounds + 1)
    early: State = {}
    for number in range(rounds + 1):
        run = start(model, masks, each)
        if not early:
            run.run(rewind)
            early = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        run.run(each)
        if number < rounds:
            keep_largest(model, masks, max(round(size * (kept / size) ** ((number + 1) / rounds)), kept))
            model.load_state_dict(early)
            masks.hold(model)
    return run.trained.merged()


def starter(network: Network, objective: Any, samples: Any, options: Any, compute: torch.dtype) -> Start:
    """Training runs of all weights on samples, as recovery makes them; batch statistics follow what is pruned."""

    def start(model: Any, masks: Masks, steps: int) -> TrainingRun:
        for layer in batch_norms(model).values():
            layer.train()
        run = TrainingRun(Whole(model, network, masks, options), objective, samples, options, steps, compute)
        # Losses rise whenever something is pruned.
        run.tolerance = math.inf
        return run

    return start
