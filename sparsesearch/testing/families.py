"""Conformance of families: candidates have the same outputs however they are made from a map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from sparsesearch.data import Samples
from sparsesearch.evaluation import outputs_of
from sparsesearch.models import load_model
from sparsesearch.models.tracing.trace import tied_parameters
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome
from sparsesearch.testing.networks import BuiltNetwork


def check_family(model: Path, work: Path, **changes: Any) -> None:
    """Check the map of a checkpoint's family, with units of every kind that the map finds.

    - A candidate has the same outputs if its parts are zeroed, sliced, or built at their sizes.
    - Its costs are those counted on its tensors and on the cache that it fills.
    - The dense network stays unchanged to the last bit, and tied weights stay tied.
    - Candidates do not depend on those applied before.

    Args:
        model: directory of a checkpoint; a small one with random weights is enough.
        work: an empty directory.
        changes: of `networks.recipe`, such as `data`.

    Raises AssertionError, or InputError SS202 for a family without a map.
    """
    check_network(BuiltNetwork(model, work, images=work, **changes))


def check_network(built: BuiltNetwork) -> None:
    """Check a network whose levels are built already; see `check_family`."""
    _check_ways_agree(built)
    _check_costs(built)
    _check_dense(built)
    _check_ties(built)
    _check_order(built)


def genomes_of(space: Space, count: int = 6) -> list[Genome]:
    """Return the dense and the smallest genome, one for each kind that is smallest in it alone, and random ones."""
    rng = np.random.default_rng(0)
    one_kind = [
        Genome.of([m if u.kind == kind else 0 for u, m in zip(space.units, space.max_levels, strict=True)])
        for kind in {u.kind for u in space.units}
    ]
    return [space.dense, space.smallest, *one_kind, *(random_genome(space, rng) for _ in range(count))]


def two_samples(built: BuiltNetwork) -> Samples:
    """Return two selection samples."""
    return built.launch.samples["selection"].rows(slice(0, 2))


def outputs_on_samples(built: BuiltNetwork, model: Any) -> torch.Tensor:
    """Return a model's outputs on `two_samples`, (2, positions, values)."""
    return outputs_of(model, built.launch.network.task, two_samples(built))


def _check_ways_agree(built: BuiltNetwork) -> None:
    sliced, in_place = built.supernet("sliced"), built.supernet("in_place")
    for genome in genomes_of(built.space):
        expected = outputs_on_samples(built, sliced.apply(genome))
        # Zeros cannot take an expert from the router.
        if not any(u.kind == "experts" and level for u, level in zip(built.space.units, genome.levels, strict=True)):
            zeroed = outputs_on_samples(built, in_place.apply(genome))
            assert torch.allclose(zeroed, expected, atol=1e-4), f"{genome.id}: zeros in place differ from slices"
        made = outputs_on_samples(built, sliced.materialise(genome))
        assert torch.allclose(made, expected, atol=1e-5), f"{genome.id}: a network of its own differs from slices"


def _check_costs(built: BuiltNetwork) -> None:
    supernet, tokens = built.supernet("sliced"), torch.arange(12)[None] * 37
    for genome in genomes_of(built.space):
        model = supernet.materialise(genome)
        costs = built.space.costs.named(genome.levels)
        params = sum(p.numel() for p in model.parameters())
        nonzeros = sum(int(torch.count_nonzero(p)) for p in model.parameters())
        assert costs["params"] == params, f"{genome.id}: params {costs['params']}, its tensors hold {params}"
        assert costs["nonzeros"] == nonzeros, f"{genome.id}: nonzeros {costs['nonzeros']}, its tensors hold {nonzeros}"
        assert costs["bytes"] == 4 * params, f"{genome.id}: bytes {costs['bytes']}, not 4 a parameter"
        if not built.launch.network.task.generates:
            continue
        cache = model(tokens % model.config.vocab_size, use_cache=True).past_key_values
        # Where attention is dropped, one number for keys and one for values say how many tokens passed.
        held = [x for x in cache.layers if x.is_initialized and x.keys.shape[-1] > 1]
        per_token = sum(x.keys.numel() + x.values.numel() for x in held)
        if all(not getattr(x, "is_sliding", False) for x in cache.layers):
            expected = per_token * 4 * built.launch.config.context // tokens.shape[1]
            assert costs["kv_bytes"] == expected, f"{genome.id}: kv_bytes {costs['kv_bytes']}, its cache is {expected}"


def _check_dense(built: BuiltNetwork) -> None:
    supernet, dense = built.supernet("sliced"), built.space.dense
    expected = outputs_on_samples(built, load_model(built.directory, torch.float32))
    assert torch.equal(outputs_on_samples(built, supernet.apply(dense)), expected), "the dense genome is the model"
    supernet.apply(built.space.smallest)
    again = outputs_on_samples(built, supernet.apply(dense))
    assert torch.equal(again, expected), "the dense genome is the model again after another one"
    made = outputs_on_samples(built, supernet.materialise(dense))
    assert torch.equal(made, expected), "a network of the dense genome is the model"


def _check_ties(built: BuiltNetwork) -> None:
    stock = load_model(built.directory, torch.float32)
    supernet = built.supernet("sliced")
    # Position biases that T5's blocks share may be dropped with their attention.
    expected = {name for name in tied_parameters(stock) if "embed" in name or "head" in name}
    for model in (supernet.materialise(built.space.smallest), supernet.apply(built.space.smallest)):
        assert expected <= set(tied_parameters(model)), "tied weights stay tied"
    if built.launch.network.task.generates:
        tied = bool(stock.config.tie_word_embeddings)
        assert bool(expected) == tied, f"embeddings and head are{'' if tied else ' not'} tied in the stock model"


def _check_order(built: BuiltNetwork) -> None:
    supernet = built.supernet("sliced")
    genomes = genomes_of(built.space, 3)
    first = [outputs_on_samples(built, supernet.apply(g)) for g in genomes]
    second = [outputs_on_samples(built, supernet.apply(g)) for g in reversed(genomes)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True)), "the order of candidates matters"
