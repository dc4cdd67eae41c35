"""Cut experts against a reference of its own: every token and expert in plain loops, from the dense weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import Built, launched

from sparsesearch.errors import InputError
from sparsesearch.evaluation import outputs_of
from sparsesearch.models import load_model
from sparsesearch.pruning.experts import EXPERTS, Experts, stun
from sparsesearch.space import Genome
from sparsesearch.testing import check_expert_order
from sparsesearch.testing.pruners import experts_of

Make = Callable[[str], Path]


def routed(block: Any, x: torch.Tensor, kept: list[int], normalised: bool) -> torch.Tensor:
    """What a mixture puts out for one token when only the kept experts are there."""
    probabilities = torch.softmax(block.gate.weight[kept] @ x, dim=0)
    best, chosen = probabilities.topk(block.gate.top_k)
    best = best / best.sum() if normalised else best
    out = torch.zeros_like(x)
    for weight, expert in zip(best, chosen.tolist(), strict=True):
        gate, up = (block.experts.gate_up_proj[kept[expert]] @ x).chunk(2)
        out += weight * (block.experts.down_proj[kept[expert]] @ (block.experts.act_fn(gate) * up))
    return out


@pytest.mark.parametrize(("family", "normalised"), [("mixtral", True), ("qwen3_moe", False), ("olmoe", False)])
@pytest.mark.parametrize("level", [1, 3])
def test_cut_experts_equal_a_mixture_of_the_others(
    family: str, normalised: bool, level: int, family_dir: Make, tmp_path: Path
) -> None:
    built = Built(family_dir(family), tmp_path)
    units = built.space.units
    genome = Genome.of([min(level, len(u.levels) - 1) if u.kind == "experts" else 0 for u in units])
    supernet = built.supernet("sliced")
    samples = built.launch.samples["selection"].rows(slice(0, 2))
    answer = outputs_of(supernet.apply(genome), built.launch.network.task, samples)

    reference = load_model(built.directory, torch.float32)
    for unit in units:
        if unit.kind == "experts":
            block = reference.get_submodule(unit.module)
            kept = supernet.composer.files.kept(unit, min(level, len(unit.levels) - 1), unit.total)[0].tolist()
            assert len(kept) == unit.levels[min(level, len(unit.levels) - 1)]

            def forward(hidden: torch.Tensor, block: Any = block, kept: list[int] = kept) -> torch.Tensor:
                flat = hidden.reshape(-1, hidden.shape[-1])
                return torch.stack([routed(block, x, kept, normalised) for x in flat]).view_as(hidden)

            block.forward = forward
    expected = outputs_of(reference, built.launch.network.task, samples)
    assert torch.allclose(answer, expected, atol=1e-4)
    assert not torch.allclose(answer, outputs_of(supernet.apply(built.space.dense), built.launch.network.task, samples))


def test_routing_groups_keep_equally_many_experts(family_dir: Make, tmp_path: Path) -> None:
    built = Built(family_dir("deepseek_v3"), tmp_path)
    unit = next(u for u in built.space.units if u.kind == "experts")
    assert unit.total == 4  # of each of two groups of the eight experts
    kept = built.store.files.kept(unit, 1, unit.total)
    assert kept.shape == (2, unit.levels[1])


def test_no_fewer_experts_than_the_router_picks(family_dir: Make) -> None:
    with pytest.raises(InputError, match=r"SS110 .* a level keeps 1 of 6, but the router picks 2"):
        launched(family_dir("mixtral"), units=[{"kind": "experts", "levels": [1 / 6, 0.5]}])
    space = launched(family_dir("mixtral"), units=[{"kind": "experts", "min_kept": "0%"}]).space
    assert min(unit.levels[-1] for unit in space.units) == 2


@pytest.mark.parametrize("name", EXPERTS)
def test_conformance_of_orders(name: str) -> None:
    check_expert_order(name)


def test_reap_and_easy_ep_follow_their_formulas() -> None:
    moe = experts_of()
    assert EXPERTS["reap"](moe).tolist() == np.argsort((moe.output / moe.tokens.clamp_min(1)).numpy()).tolist()
    assert EXPERTS["easy_ep"](moe).tolist() == np.argsort(moe.turning.numpy()).tolist()


def test_stun_merges_identical_router_rows_first() -> None:
    moe = experts_of()
    rows = moe.router.clone()
    rows[4] = rows[1]
    order = stun(Experts(rows, moe.tokens, moe.output, moe.turning)).tolist()
    assert order[0] in (1, 4)


def test_routing_statistics_equal_plain_sums(family_dir: Make, tmp_path: Path) -> None:
    """Tokens, gate times output norm, and how far the layer turns a token, in plain loops."""
    from sparsesearch.calibration.collect import Collector

    launch = launched(family_dir("mixtral"), units=[{"kind": "experts"}])
    model = launch.source.load(torch.float32, "cpu")
    path = "model.layers.1.mlp"
    block, states = model.get_submodule(path), []
    block.register_forward_pre_hook(lambda _, args: states.append(args[0].reshape(-1, args[0].shape[-1])))
    matrices = [m for m in launch.network.matrices.values() if m.name.startswith(path)]
    with Collector(model, matrices, 16) as collector:
        outputs_of(model, launch.network.task, launch.samples["selection"])
    expected = torch.zeros(6, 3)
    for x in torch.cat(states):
        probabilities = torch.softmax(block.gate.weight @ x, dim=0)
        best, chosen = probabilities.topk(2)
        parts = []
        for weight, expert in zip(best / best.sum(), chosen.tolist(), strict=True):
            gate, up = (block.experts.gate_up_proj[expert] @ x).chunk(2)
            parts.append((expert, weight * (block.experts.down_proj[expert] @ (block.experts.act_fn(gate) * up))))
        turned = 1 - torch.nn.functional.cosine_similarity(x, x + sum(part for _, part in parts), dim=0)
        for expert, part in parts:
            expected[expert] += torch.stack([torch.tensor(1.0), part.norm(), part.norm() * turned.clamp_min(0)])
    answer = collector.result()[f"{path}.experts:routing"]
    assert torch.allclose(answer, expected, rtol=1e-3, atol=1e-4)
