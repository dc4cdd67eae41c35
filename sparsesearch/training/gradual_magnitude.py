"""Pruning by magnitude during training, without a search: baselines for a search with recovery.

All methods prune globally over the matrices of a network, to an exact number of weights, and train the same steps.
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
from sparsesearch.training.trainee import AllWeights

State = dict[str, torch.Tensor]
# Starts a training run of a network inside masks for a number of steps.
Start = Callable[[Any, Masks, int], TrainingRun]
# Number of pruning events of gradual pruning, and the share of all steps at which the last one happens.
PRUNING_EVENTS, LAST_EVENT = 20, 0.75


def dense_masks(model: Any, network: Network) -> Masks:
    """Return masks of all matrices that prune nothing."""
    parameters = dict(model.named_parameters())
    matrices = [name for name in network.matrices if name in parameters]
    return Masks({name: torch.ones_like(parameters[name], dtype=torch.bool) for name in matrices})


def keep_largest(model: Any, masks: Masks, count: int) -> None:
    """Keep the `count` largest of the kept weights, exactly that many even if there are ties, and prune the others."""
    before = {name: kept.clone() for name, kept in masks.kept.items()}
    largest = _largest([model.get_parameter(name).detach().abs()[kept] for name, kept in before.items()], count)
    for (name, kept), selected in zip(before.items(), largest, strict=True):
        masks.kept[name][kept] = selected
    masks.apply(model)


def grow_largest(masks: Masks, count: int, gradients: State) -> None:
    """Restore the `count` pruned weights with the largest gradients; they start at zero."""
    pruned = {name: ~kept for name, kept in masks.kept.items()}
    largest = _largest([gradients[name].abs()[mask] for name, mask in pruned.items()], count)
    for (name, mask), selected in zip(pruned.items(), largest, strict=True):
        masks.kept[name][mask] = selected


def _largest(tensors: list[torch.Tensor], count: int) -> list[torch.Tensor]:
    """Return masks of the `count` largest entries of all tensors, (entries,) bool each."""
    flat = torch.cat(tensors)
    selected = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    selected[flat.topk(min(count, len(flat))).indices] = True
    return list(torch.split(selected, [len(tensor) for tensor in tensors]))


def kept_at(progress: float, size: int, kept: int) -> int:
    """Return the weights left after a share `progress` of pruning: cubic schedule of Zhu & Gupta (2017), eq. 1."""
    return kept + round((size - kept) * (1 - min(progress, 1.0)) ** 3)


def prune_gradually(start: Start, model: Any, network: Network, kept: int, steps: int, regrow: float = 0.0) -> Any:
    """Prune by magnitude while training (Zhu & Gupta, 2017); with `regrow` GraNet (Liu et al., 2021, algorithm 1).

    Args:
        start: starts the training run.
        model: trained in place.
        kept: weights of the matrices that are kept at the end.
        steps: training steps.
        regrow: share of the kept weights that are pruned beyond the schedule and grown back elsewhere by gradient, in
            [0, 1), annealed to zero along a cosine.
    """
    masks = dense_masks(model, network)
    size = sum(mask.numel() for mask in masks.kept.values())
    run = start(model, masks, steps)
    for event in range(1, PRUNING_EVENTS + 1):
        run.run(round(event / PRUNING_EVENTS * LAST_EVENT * steps))
        count = kept_at(event / PRUNING_EVENTS, size, kept)
        swapped = round(count * regrow * (1 + math.cos(math.pi * event / PRUNING_EVENTS)) / 2)
        gradients = _gradients(run, masks) if swapped else {}
        keep_largest(model, masks, count - swapped)
        if swapped:
            grow_largest(masks, swapped, gradients)
    run.run(steps)
    return run.trainee.merge()


def _gradients(run: TrainingRun, masks: Masks) -> State:
    """Return the gradients of the next minibatch at all weights, also pruned ones."""
    run.gradients()
    gradients = {name: run.trainee.model.get_parameter(name).grad for name in masks.kept}
    return {name: gradient.clone() for name, gradient in gradients.items()}


def prune_with_rewinding(
    start: Start, model: Any, network: Network, kept: int, steps: int, rounds: int, rewind: int
) -> Any:
    """Train, prune and rewind in rounds: iterative magnitude pruning (Frankle et al., 2020).

    Args:
        start, model, kept: as in `prune_gradually`.
        steps: training steps of all rounds together; each takes an equal share.
        rounds: number of rounds of pruning; each keeps the same share of the weights.
        rewind: step of the first round that weights are rewound to.
    """
    masks = dense_masks(model, network)
    size, round_steps = sum(mask.numel() for mask in masks.kept.values()), steps // (rounds + 1)
    early: State = {}
    for number in range(rounds + 1):
        run = start(model, masks, round_steps)
        if not early:
            run.run(rewind)
            early = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
        run.run(round_steps)
        if number < rounds:
            keep_largest(model, masks, max(round(size * (kept / size) ** ((number + 1) / rounds)), kept))
            model.load_state_dict(early)
            masks.apply(model)
    return run.trainee.merge()


def make_start(network: Network, objective: Any, samples: Any, options: Any, compute: torch.dtype) -> Start:
    """Return a function that starts training runs of all weights, in which batch statistics train as well."""

    def start(model: Any, masks: Masks, steps: int) -> TrainingRun:
        for layer in batch_norms(model).values():
            layer.train()
        run = TrainingRun(AllWeights(model, network, masks, options), objective, samples, options, steps, compute)
        # Losses rise at every pruning event.
        run.max_loss_ratio = math.inf
        return run

    return start
