"""Conformance of model families: a new family is one line in support.FAMILIES."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support import FAMILIES as MODELS
from support import Built, kinds_of, launched
from transformers import PreTrainedModel

from sparsesearch.models import FAMILIES
from sparsesearch.testing.families import check_network, genomes_of, outputs_on_samples, two_samples

TOKENS = torch.arange(2 * 12).view(2, 12) * 37 % 2048


@pytest.fixture(scope="module", params=list(MODELS))
def built(request: pytest.FixtureRequest, family_dir: Callable[[str], Path], tmp_path_factory: Any) -> Built:
    return Built(family_dir(request.param), tmp_path_factory.mktemp("store"))


def outputs_of_tokens(model: Any) -> torch.Tensor:
    with torch.no_grad():
        output: torch.Tensor = model(TOKENS, use_cache=False).logits
    return output


def test_conformance(built: Built) -> None:
    check_network(built)


def test_every_family_is_tried() -> None:
    configs = [getattr(transformers, config_class) for config_class, _, _ in MODELS.values()]
    assert {config.model_type for config in configs} == set(FAMILIES)


def test_macs_equal_torchs_flop_counter(built: Built) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    network, samples = built.launch.network, two_samples(built)
    if "deberta" in network.model_type:
        pytest.skip("projections of relative positions act once on a text, however long it is")
    supernet, length = built.supernet("sliced"), samples.length // (2 if network.task.data == "pair" else 1)
    at_length = launched(built.directory, units=kinds_of(built.directory), context=length).space.costs
    for genome in genomes_of(built.space, 2):
        model = supernet.apply(genome)
        for part in model.modules() if network.attentions else ():  # of T5, versions before 5.24 reach no stack at once
            if isinstance(part, PreTrainedModel):
                part.set_attn_implementation("eager")
        if any(cut.kind == "experts" for cut in network.cuts.values()):
            model.set_experts_implementation("eager")
        with FlopCounterMode(display=False) as counter:
            outputs_on_samples(built, model)
        # The counter counts two floating-point operations a MAC.
        times = len(samples) * (1 if network.task.data == "image" else length)
        counted, expected = counter.get_total_flops() // 2, at_length.named(genome.levels)["macs"] * times
        # Rotary embeddings multiply positions by frequencies, which are not weights.
        rotary = sum(module.inv_freq.numel() * length for module in model.modules() if hasattr(module, "inv_freq"))
        local = sum(b.numel() * length for n, b in model.named_buffers() if n.endswith("_attention_inv_freq"))
        # Heads that act once on a text are not part of the cost of a token.
        shapes = [network.shapes[name] for name, times in network.applied.items() if not times]
        weights = sum(math.prod(shape) for shape in shapes if len(shape) > 1)
        once = len(samples) * weights if network.task.data == "tokens" else 0
        assert counted - expected in {extra + once for extra in (0, rotary, local, 2 * local)}


def test_an_exception_while_applying_leaves_no_wrong_weights(built: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    supernet = built.supernet("sliced")
    target = genomes_of(built.space)[-1]
    expected = outputs_on_samples(built, supernet.apply(target))
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
    assert torch.equal(outputs_on_samples(built, supernet.apply(target)), expected)


def test_generation_with_a_cache_equals_plain_forward_passes(built: Built) -> None:
    from sparsesearch.export.verify_in_process import find_disagreements

    if not built.launch.network.task.generates:
        pytest.skip("does not generate")
    supernet = built.supernet("sliced")
    for genome in [built.space.dense, built.space.smallest, *genomes_of(built.space, 3)[2:]]:
        model = supernet.materialise(genome)
        assert find_disagreements(model, {"input_ids": TOKENS}) == []
