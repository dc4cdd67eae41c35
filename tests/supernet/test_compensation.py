"""Biases that make up for pruning: mean outputs stay, and every form of a candidate has them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import Built, kinds_of, run_search

from sparsesearch.engine.reopen import open_run
from sparsesearch.evaluation import outputs_of
from sparsesearch.export import export
from sparsesearch.models import load_model
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome

Make = Callable[[str], Path]
FAMILIES = ["llama", "gpt2", "phi3", "bert", "vit", "swin", "qwen2_moe"]


def pruners(**changes: Any) -> dict[str, Any]:
    return {"compensate": True, "sparsity": "wanda", "width": "flap"} | changes


@pytest.fixture(scope="module", params=FAMILIES)
def built(request: pytest.FixtureRequest, family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(family_dir(request.param), tmp_path_factory.mktemp("store"), pruners=pruners())


def mean_output(built: Built, model: Any, path: str) -> torch.Tensor:
    """What a module puts out on calibration data, on average."""
    outputs: list[torch.Tensor] = []
    handle = model.get_submodule(path).register_forward_hook(lambda _, __, out: outputs.append(out.flatten(0, -2)))
    try:
        outputs_of(model, built.launch.network.task, built.launch.samples["calibration"])
    finally:
        handle.remove()
    return torch.cat(outputs).mean(dim=0)


def test_the_mean_output_of_a_pruned_matrix_stays(built: Built) -> None:
    supernet = built.supernet("sliced")
    dense = load_model(built.directory, torch.float32)
    for kind in ("sparsity", "ffn_width", "kv_groups"):
        position = next((i for i, u in enumerate(built.space.units) if u.kind == kind), None)
        if position is None:
            continue
        unit = built.space.units[position]
        levels = [len(unit.levels) - 1 if i == position else 0 for i in range(len(built.space.units))]
        path = unit.module
        if kind != "sparsity":
            path = built.launch.network.cuts[unit.name].readers[0].tensor.rpartition(".")[0]
        pruned = supernet.apply(Genome.of(levels))
        expected, output = mean_output(built, dense, path), mean_output(built, pruned, path)
        scale = expected.abs().max() + 1e-3
        assert (output - expected).abs().max() < 1e-3 * scale, kind


def genomes(built: Built) -> list[Genome]:
    import numpy as np

    from sparsesearch.space.sampling import random_genome

    rng = np.random.default_rng(0)
    return [built.space.dense, built.space.smallest, *(random_genome(built.space, rng) for _ in range(5))]


def test_in_place_equals_sliced_equals_materialised_and_costs_are_counted(built: Built) -> None:
    sliced, in_place = built.supernet("sliced"), built.supernet("in_place")
    task, samples = built.launch.network.task, built.launch.samples["selection"].rows(slice(0, 2))
    for genome in genomes(built):
        expected = outputs_of(sliced.apply(genome), task, samples)
        if not any(u.kind == "experts" and level for u, level in zip(built.space.units, genome.levels, strict=True)):
            assert torch.allclose(outputs_of(in_place.apply(genome), task, samples), expected, atol=1e-4)
        model = sliced.materialise(genome)
        assert torch.allclose(outputs_of(model, task, samples), expected, atol=1e-5)
        costs = built.space.costs.named(genome.levels)
        assert costs["params"] == sum(p.numel() for p in model.parameters())
        assert costs["nonzeros"] == sum(int(torch.count_nonzero(p)) for p in model.parameters())


def test_dense_stays_dense(built: Built) -> None:
    supernet = built.supernet("sliced")
    task, samples = built.launch.network.task, built.launch.samples["selection"].rows(slice(0, 2))
    expected = outputs_of(load_model(built.directory, torch.float32), task, samples)
    supernet.apply(built.space.smallest)
    assert torch.equal(outputs_of(supernet.apply(built.space.dense), task, samples), expected)
    assert sum(p.numel() for p in supernet.materialise(built.space.dense).parameters()) == sum(
        p.numel() for p in load_model(built.directory, torch.float32).parameters()
    )


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.usefixtures("quick_exports")
def test_exports_carry_the_biases(family: str, family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir(family), units=kinds_of(family_dir(family)), pruners=pruners())
    genome = Genome.of([1 if u.kind in ("sparsity", "ffn_width") else 0 for u in results.space.units])
    chosen = Evaluation(genome, 1, 0, "test", "ok", 1.0, results.space.costs.named(genome.levels))
    report = export(open_run(results), chosen, tmp_path / "out")
    # Llama has no biases, so its stock configuration cannot say this candidate.
    assert report["form"] == ("uneven" if family == "llama" else "uniform")
    assert report["params"] == chosen.costs["params"]
