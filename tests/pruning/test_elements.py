"""Structured pruners by score: the order that each must give, from its formula."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pruning.cases import OPTIONS, group, layer, made, sampled

from sparsesearch.calibration import InputStatistics
from sparsesearch.config import PrunerConfig
from sparsesearch.pruning import STRUCTURED, Group, Layer, Reader, Writer, bias_shift
from sparsesearch.pruning.cfsp import cfsp
from sparsesearch.pruning.flap import flap
from sparsesearch.pruning.magnitude import element_magnitude
from sparsesearch.pruning.maw import maw
from sparsesearch.pruning.minitron import minitron
from sparsesearch.pruning.taylor import element_taylor


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_prefix_keeps_the_first() -> None:
    group = Group((Reader(made(normal(3, 6), torch.eye(6)), torch.arange(6)[:, None]),), ())
    order, levels = STRUCTURED["prefix"].prune(group, [4, 2], OPTIONS)
    assert order.tolist() == [5, 4, 3, 2]
    assert torch.equal(levels[1][0], group.readers[0].layer.weight_OI[:, :2])


@pytest.mark.parametrize("name", [name for name in STRUCTURED if name not in ("obs", "random", "prefix")])
def test_lowest_go_first_and_ties_go_by_index(name: str) -> None:
    layer = made(torch.ones(3, 6), torch.eye(6))
    ones = torch.ones(6, 1, 4)
    gradient, square = torch.ones(3, 6), torch.ones(3, 6)
    tied = Layer(layer.weight_OI, layer.inputs, square, gradient)
    index = torch.arange(6)[:, None]
    order, _ = STRUCTURED[name].prune(Group((Reader(tied, index),), (Writer(ones, ones, ones),)), [2], OPTIONS)
    assert order.tolist() == [0, 1, 2, 3]
    weight = torch.tensor([3.0, 1.0, 4.0, 5.0, 9.0, 2.0])
    inputs = InputStatistics(torch.diag(weight), torch.zeros(6), weight)
    scaled = Layer(torch.ones(3, 6) * weight, inputs, square, gradient)
    order, _ = STRUCTURED[name].prune(
        Group((Reader(scaled, index),), (Writer(ones * weight[:, None, None], ones, ones),)), [1], OPTIONS
    )
    assert order.tolist() == [1, 5, 0, 2, 3]


def test_random_order_depends_on_the_seed_alone() -> None:
    weight, moment = layer(inputs=24)
    prune = STRUCTURED["random"].prune
    first, _ = prune(group(weight, moment, 1), [3], OPTIONS)
    again, _ = prune(group(weight + 1, moment, 1), [9, 3], OPTIONS)
    other, _ = prune(group(weight, moment, 1), [3], PrunerConfig(seed=1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_magnitude_is_the_norm_of_all_members() -> None:
    cut = group(*layer(inputs=24), 4)
    for element in (0, 5):
        columns = cut.readers[0].layer.weight_OI[:, cut.readers[0].index[element]]
        members = [columns, *(writer.weight[element] for writer in cut.writers)]
        norm = torch.cat([member.flatten() for member in members]).norm()
        assert torch.allclose(element_magnitude(cut, OPTIONS)[element], norm)


def test_flap_is_the_residual_of_one_removed_channel_with_its_mean_in_the_bias() -> None:
    x, weight = normal(300, 6) * torch.arange(1, 7) + 2, normal(4, 6, seed=1)
    reader = sampled(x, weight)
    score = flap(Group((Reader(reader, torch.arange(6)[:, None]),), ()), OPTIONS)
    for j in range(6):
        pruned = weight.clone()
        pruned[:, j] = 0.0
        output = x @ pruned.T + bias_shift(weight, pruned, reader.inputs.mean)
        assert torch.allclose((x @ weight.T - output).square().sum(1).mean(), score[j])


def test_flap_sums_over_inputs_and_readers() -> None:
    readers = [sampled(normal(50, 6, seed=s), normal(4, 6, seed=s + 9)) for s in (0, 1)]
    single = [flap(Group((Reader(r, torch.arange(6)[:, None]),), ()), OPTIONS) for r in readers]
    index = torch.tensor([[0, 4], [1, 3], [2, 5]])
    both = flap(Group(tuple(Reader(r, index) for r in readers), ()), OPTIONS)
    assert torch.allclose(both, (single[0] + single[1])[index].sum(1))


@pytest.mark.parametrize("order", [1, 2])
@settings(max_examples=20, deadline=None)
@given(scales=st.lists(st.floats(0.1, 10), min_size=6, max_size=6))
def test_taylor_does_not_see_scales_that_cancel_in_a_linear_pair(order: int, scales: list[float]) -> None:
    x, target = normal(8, 5), normal(8, 3, seed=1)

    def score(scale: torch.Tensor) -> torch.Tensor:
        up = (normal(6, 5, seed=2) * scale[:, None]).requires_grad_()
        down = (normal(3, 6, seed=3) / scale).requires_grad_()
        grads = [
            torch.autograd.grad((x[i] @ up.T @ down.T - target[i]).square().sum(), (up, down)) for i in range(len(x))
        ]
        (g_up, s_up), (g_down, s_down) = (
            (torch.stack(g).mean(0), torch.stack(g).square().mean(0)) for g in zip(*grads, strict=True)
        )
        inputs = sampled(x @ up.detach().T, down.detach()).inputs
        reader = Reader(Layer(down.detach(), inputs, s_down, g_down), torch.arange(6)[:, None])
        writer = Writer(up.detach()[:, None], g_up[:, None], s_up[:, None])
        return element_taylor(Group((reader,), (writer,)), PrunerConfig(order=order))

    assert torch.allclose(score(torch.tensor(scales).double()), score(torch.ones(6).double()))


def test_taylor_sums_its_members() -> None:
    cut = group(*layer(inputs=24), 4)
    reader = cut.readers[0]
    assert reader.layer.gradient_OI is not None
    terms = (reader.layer.weight_OI * reader.layer.gradient_OI).abs()[:, reader.index[2]].sum()
    for writer in cut.writers:
        assert writer.gradient is not None
        terms = terms + (writer.weight[2] * writer.gradient[2]).abs().sum()
    assert torch.allclose(element_taylor(cut, OPTIONS)[2], terms)


def test_minitron_by_hand() -> None:
    """Two sequences of two positions. Means of |x|: input 0: 2 and 4, 1: 1 and 1, 2: 0 and 2, 3: 3 and 5."""
    x = torch.tensor([[[1.0, 1, 0, -3], [-3, -1, 0, 3]], [[4.0, 2, -2, 5], [-4, 0, 2, 5]]])
    square = x.abs().mean(dim=1).square().mean(dim=0)
    assert square.tolist() == [10.0, 1.0, 2.0, 17.0]
    inputs = InputStatistics(torch.eye(4), torch.zeros(4), square)
    reader = Reader(Layer(torch.ones(1, 4), inputs), torch.tensor([[0, 1], [2, 3]]))
    assert minitron(Group((reader,), ()), OPTIONS).tolist() == pytest.approx([11**0.5, 19**0.5])


@given(st.permutations(range(7)))
def test_maw_does_not_see_the_order_of_inputs(permutation: list[int]) -> None:
    cut = group(*layer(inputs=24), 4)
    permuted = Group(cut.readers, tuple(Writer(w.weight[:, :, permutation]) for w in cut.writers))
    assert torch.equal(maw(permuted, OPTIONS), maw(cut, OPTIONS))


def test_maw_by_hand() -> None:
    gate, up = torch.tensor([[[1.0, -5, 2]], [[0.0, 1, 1]]]), torch.tensor([[[3.0, 0, 0]], [[-4.0, 3, 0]]])
    reader = made(torch.ones(1, 2), torch.eye(2))
    cut = Group((Reader(reader, torch.arange(2)[:, None]),), (Writer(gate), Writer(up)))
    assert maw(cut, OPTIONS).tolist() == [8.0, 5.0]


def test_cfsp_follows_the_formula_for_a_gated_feed_forward_layer() -> None:
    x, down, gate, up = normal(30, 5), normal(3, 5, seed=1), normal(5, 3, seed=2), normal(5, 3, seed=3)
    norm = x.square().mean(0).sqrt()
    expected = torch.zeros(5, dtype=torch.float64)
    for j in range(5):
        for i in range(3):
            whole = sum(float(down[i, k].abs() * norm[k]) for k in range(5))
            share = float(down[i, j].abs() * norm[j]) / whole
            share += float(up[j, i].abs() / up[:, i].abs().sum() + gate[j, i].abs() / gate[:, i].abs().sum())
            expected[j] += share * norm[j] / 3
    reader = Reader(sampled(x, down), torch.arange(5)[:, None])
    score = cfsp(Group((reader,), (Writer(gate[:, None]), Writer(up[:, None]))), OPTIONS)
    assert torch.allclose(score, expected)
