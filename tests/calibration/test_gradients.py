"""The gradient pass: means over samples, for every task that has a loss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import launched

from sparsesearch.calibration.gradients import collect_gradients, load_gradients, loss
from sparsesearch.errors import InputError

Make = Callable[[str], Path]


@pytest.mark.parametrize("family", ["llama", "gpt2", "bert", "t5", "vit", "qwen3_moe"])
def test_means_over_samples_equal_autograds_of_single_samples(family: str, family_dir: Make, tmp_path: Path) -> None:
    launch = launched(family_dir(family), units=[{"kind": "sparsity"}])
    model, network = launch.source.load(torch.float32, "cpu"), launch.network
    samples = launch.samples["calibration"].rows(slice(0, 3))
    collect_gradients(model, network, samples, tmp_path / "g.safetensors")
    gradients = load_gradients(tmp_path / "g.safetensors")
    assert set(gradients) == set(network.matrices)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    name = next(iter(network.matrices))
    parameter = model.get_parameter(name).requires_grad_(True)
    each = []
    for i in range(3):
        sample = samples.rows(slice(i, i + 1))
        value = loss(network.task, network.task.call(model, sample.inputs(model)), sample)
        each.append(torch.autograd.grad(value, parameter)[0])
    mean, square = gradients[name]
    assert torch.allclose(mean, torch.stack(each).mean(dim=0), atol=1e-6)
    assert torch.allclose(square, torch.stack(each).square().mean(dim=0), atol=1e-8)


def test_models_without_a_head_have_no_loss(family_dir: Make) -> None:
    with pytest.raises(InputError, match=r"SS209 .* model without a head"):
        launched(family_dir("bert-embedding"), units=[{"kind": "sparsity"}], pruners={"sparsity": "gblm"})
