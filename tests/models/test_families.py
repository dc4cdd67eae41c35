"""Conformance of model families: a new family is one line in conftest.FAMILIES."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import FAMILIES, Built, kinds_of, launched
from transformers import PreTrainedModel

from sparsesearch.data import Samples
from sparsesearch.evaluation import outputs_of
from sparsesearch.models import load_model
from sparsesearch.models.trace import tied_parameters
from sparsesearch.space import Genome, Space
from sparsesearch.space.sampling import random_genome

TOKENS = torch.arange(2 * 12).view(2, 12) * 37 % 2048


@pytest.fixture(scope="module", params=list(FAMILIES))
def built(request: pytest.FixtureRequest, family_dir: Callable[[str], Path], tmp_path_factory: Any) -> Built:
    return Built(family_dir(request.param), tmp_path_factory.mktemp("store"))


def genomes(space: Space, count: int = 6) -> list[Genome]:
    rng = np.random.default_rng(0)
    one_kind = [
        Genome.of([m if u.kind == kind else 0 for u, m in zip(space.units, space.max_levels, strict=True)])
        for kind in {u.kind for u in space.units}
    ]
    return [space.dense, space.smallest, *one_kind, *(random_genome(space, rng) for _ in range(count))]


def inputs_of(built: Built) -> Samples:
    return built.launch.samples["selection"].rows(slice(0, 2))


def outputs(built: Built, model: Any) -> torch.Tensor:
    return outputs_of(model, built.launch.network.task, inputs_of(built))


def outputs_of_tokens(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(TOKENS, use_cache=False).logits
    return found


def test_in_place_equals_sliced_equals_materialised(built: Built) -> None:
    sliced, in_place = built.supernet("sliced"), built.supernet("in_place")
    for genome in genomes(built.space):
        expected = outputs(built, sliced.apply(genome))
        # Zeros cannot take an expert from the router; `test_moe.py` compares with a reference of its own.
        if not any(u.kind == "experts" and level for u, level in zip(built.space.units, genome.levels, strict=True)):
            assert torch.allclose(outputs(built, in_place.apply(genome)), expected, atol=1e-4)
        assert torch.allclose(outputs(built, sliced.materialise(genome)), expected, atol=1e-5)


def test_costs_equal_counting_the_materialised_tensors(built: Built) -> None:
    supernet = built.supernet("sliced")
    for genome in genomes(built.space):
        model = supernet.materialise(genome)
        costs = built.space.costs.named(genome.levels)
        assert costs["params"] == sum(p.numel() for p in model.parameters())
        assert costs["nonzeros"] == sum(int(torch.count_nonzero(p)) for p in model.parameters())
        assert costs["bytes"] == 4 * costs["params"]
        if not built.launch.network.task.generates:
            continue
        cache = model(TOKENS[:1], use_cache=True).past_key_values
        # Where attention is dropped, one number for keys and one for values tell how many tokens passed.
        held = [x for x in cache.layers if x.is_initialized and x.keys.shape[-1] > 1]
        per_token = sum(x.keys.numel() + x.values.numel() for x in held)
        if all(not getattr(x, "is_sliding", False) for x in cache.layers):
            assert costs["kv_bytes"] == per_token * 4 * built.launch.config.context // TOKENS.shape[1]


def test_macs_equal_torchs_flop_counter(built: Built) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network, samples = built.launch.network, inputs_of(built)
    if "deberta" in network.model_type:
        pytest.skip("projections of relative positions act once on a text, however long it is")
    supernet, length = built.supernet("sliced"), samples.length // (2 if network.task.data == "pair" else 1)
    at_length = launched(built.directory, units=kinds_of(built.directory), context=length).space.costs
    for genome in genomes(built.space, 2):
        model = supernet.apply(genome)
        for part in model.modules() if network.attentions else ():  # of T5, versions before 5.24 reach no stack at once
            if isinstance(part, PreTrainedModel):
                part.set_attn_implementation("eager")
        if any(cut.kind == "experts" for cut in network.cuts.values()):
            model.set_experts_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            outputs(built, model)
        # The counter counts two floating-point operations a MAC.
        times = len(samples) * (1 if network.task.data == "image" else length)
        counted, expected = counter.get_total_flops() // 2, at_length.named(genome.levels)["macs"] * times
        # Rotary embeddings multiply positions by frequencies, which are not weights.
        rotary = sum(module.inv_freq.numel() * length for module in model.modules() if hasattr(module, "inv_freq"))
        local = sum(b.numel() * length for n, b in model.named_buffers() if n.endswith("_attention_inv_freq"))
        # Heads that act once on a text are not part of the cost of a token.
        once = len(samples) * built.once if network.task.data == "tokens" else 0
        assert counted - expected in {extra + once for extra in (0, rotary, local, 2 * local)}


def test_dense_is_untouched_to_the_last_bit(built: Built) -> None:
    supernet = built.supernet("sliced")
    expected = outputs(built, load_model(built.directory, torch.float32))
    assert torch.equal(outputs(built, supernet.apply(built.space.dense)), expected)
    supernet.apply(built.space.smallest)
    assert torch.equal(outputs(built, supernet.apply(built.space.dense)), expected)
    assert torch.equal(outputs(built, supernet.materialise(built.space.dense)), expected)


def test_tied_weights_stay_tied(built: Built) -> None:
    stock = load_model(built.directory, torch.float32)
    supernet = built.supernet("sliced")
    # Position biases that T5's blocks share may be dropped with their attention.
    expected = {name for name in tied_parameters(stock) if "embed" in name or "head" in name}
    for model in (supernet.materialise(built.space.smallest), supernet.apply(built.space.smallest)):
        assert expected <= set(tied_parameters(model))
    if built.launch.network.task.generates:
        assert bool(expected) == stock.config.tie_word_embeddings


def test_any_order_of_genomes_gives_the_same_logits(built: Built) -> None:
    supernet = built.supernet("sliced")
    many = genomes(built.space, 3)
    first = [outputs(built, supernet.apply(g)) for g in many]
    second = [outputs(built, supernet.apply(g)) for g in reversed(many)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_exception_while_applying_leaves_no_wrong_weights(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = built.supernet("sliced")
    target = genomes(built.space)[-1]
    expected = outputs(built, supernet.apply(target))
    supernet.apply(built.space.dense)
    whole, calls = supernet.composer.tensor, iter(range(3))

    def failing(name: str, levels: tuple[int, ...]) -> torch.Tensor:
        if next(calls, None) is None:
            raise OSError("disk on fire")
        return whole(name, levels)

    monkeypatch.setattr(supernet.composer, "tensor", failing)
    with pytest.raises(OSError, match="fire"):
        supernet.apply(target)
    monkeypatch.undo()
    assert torch.equal(outputs(built, supernet.apply(target)), expected)


def test_generation_with_a_cache_equals_plain_forward_passes(built: Built) -> None:
    from sparsesearch.export.verify import disagreeing

    if not built.launch.network.task.generates:
        pytest.skip("does not generate")
    supernet = built.supernet("sliced")
    for genome in [built.space.dense, built.space.smallest, *genomes(built.space, 3)[2:]]:
        model = supernet.materialise(genome)
        assert disagreeing(model, {"input_ids": TOKENS}) == []
