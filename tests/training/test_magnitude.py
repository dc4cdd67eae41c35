"""Pruning while training: exact counts, masks that hold and nest, rewound weights, equal steps."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Built

from sparsesearch.config import TrainingConfig
from sparsesearch.training import Masks, Objective, TrainingRun
from sparsesearch.training.gradual_magnitude import (
    dense_masks,
    grow_largest,
    keep_largest,
    kept_at,
    make_start,
    prune_gradually,
    prune_with_rewinding,
)

Make = Callable[[str], Path]
STEPS = 24


@pytest.fixture(scope="module")
def built(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(family_dir("llama"), tmp_path_factory.mktemp("store"))


class Watched:
    """Starts training runs, and notes what was there at every step."""

    def __init__(self, built: Built) -> None:
        network = built.launch.network
        options = TrainingConfig.model_validate({"batch": 3, "learning_rate": 1e-2, "distill": 0})
        objective = Objective(network, None, options)
        self._start = make_start(network, objective, built.launch.samples["calibration"], options, torch.float32)
        self.runs: list[TrainingRun] = []
        self.masks: list[Masks] = []
        self.begun: list[dict[str, torch.Tensor]] = []

    def __call__(self, model: Any, masks: Masks, steps: int) -> TrainingRun:
        self.begun.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
        self.masks.append(Masks({name: kept.clone() for name, kept in masks.kept.items()}))
        self.runs.append(self._start(model, masks, steps))
        return self.runs[-1]


def network_of(built: Built) -> tuple[Any, int]:
    """A dense network of its own, and how many weights its matrices have."""
    model = built.supernet("sliced").materialise(built.space.dense).float()
    return model, sum(mask.numel() for mask in dense_masks(model, built.launch.network).kept.values())


def nonzeros(model: Any, built: Built) -> int:
    tensors = dict(model.named_parameters())
    return sum(int((tensors[name] != 0).sum()) for name in built.launch.network.matrices if name in tensors)


@pytest.mark.parametrize("regrow", [0.0, 0.5])
def test_gradual_pruning_ends_with_so_many_weights(built: Built, regrow: float) -> None:
    model, size = network_of(built)
    start, kept = Watched(built), size // 3
    before = copy.deepcopy(model.state_dict())
    trained = prune_gradually(start, model, built.launch.network, kept, STEPS, regrow)
    assert nonzeros(trained, built) == kept
    assert [run.step for run in start.runs] == [STEPS]
    assert any(not torch.equal(before[name], tensor) for name, tensor in trained.state_dict().items())


def test_without_growing_back_masks_nest(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsesearch.training import gradual_magnitude as magnitude

    snapshots: list[dict[str, torch.Tensor]] = []

    def watched(model: Any, masks: Masks, count: int) -> None:
        keep_largest(model, masks, count)
        snapshots.append({name: kept.clone() for name, kept in masks.kept.items()})

    monkeypatch.setattr(magnitude, "keep_largest", watched)
    model, size = network_of(built)
    prune_gradually(Watched(built), model, built.launch.network, size // 4, STEPS)
    assert len(snapshots) == magnitude.PRUNING_EVENTS
    for earlier, later in itertools.pairwise(snapshots):
        assert all(bool((later[name] <= earlier[name]).all()) for name in later)


def test_the_schedule_is_cubic() -> None:
    assert [kept_at(done, 1000, 200) for done in (0, 0.5, 1, 2)] == [1000, 300, 200, 200]


def test_what_is_kept_and_grown_is_the_largest(built: Built) -> None:
    model, size = network_of(built)
    masks = dense_masks(model, built.launch.network)
    weights = torch.cat([model.get_parameter(name).detach().abs().flatten() for name in masks.kept])
    keep_largest(model, masks, size // 2)
    kept = torch.cat([mask.flatten() for mask in masks.kept.values()])
    assert int(kept.sum()) == size // 2
    assert weights[kept].min() >= weights[~kept].max()
    gradients = {name: torch.randn(mask.shape) for name, mask in masks.kept.items()}
    grow_largest(masks, 10, gradients)
    grown = torch.cat([mask.flatten() for mask in masks.kept.values()]) & ~kept
    flat = torch.cat([gradients[name].abs().flatten() for name in masks.kept])
    assert set(grown.nonzero().flatten().tolist()) == set((flat * ~kept).topk(10).indices.tolist())


def test_rewinding(built: Built) -> None:
    model, size = network_of(built)
    start, kept, rounds = Watched(built), size // 5, 3
    trained = prune_with_rewinding(start, model, built.launch.network, kept, STEPS, rounds, rewind=2)
    assert nonzeros(trained, built) == kept
    assert sum(run.step for run in start.runs) == STEPS
    counts = [sum(int(mask.sum()) for mask in masks.kept.values()) for masks in start.masks]
    shares = [later / earlier for earlier, later in itertools.pairwise(counts)]
    assert shares == pytest.approx([(kept / size) ** (1 / rounds)] * rounds, rel=1e-3), "the same share each round"
    early = start.begun[1]
    for masks, begun in zip(start.masks[2:], start.begun[2:], strict=True):
        for name, mask in masks.kept.items():
            assert bool((mask <= start.masks[1].kept[name]).all()), "masks nest"
            assert torch.equal(begun[name], early[name] * mask), "weights are what they were at the rewound step"
