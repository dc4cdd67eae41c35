"""Networks of the user's own: what they put out, what they cost, which layers are pruned, what is refused."""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from own import (
    Attending,
    Audio,
    ByBatch,
    Language,
    MaskedTexts,
    Mixture,
    Multiplied,
    Recurrent,
    Shuffled,
    Standardised,
    Texts,
    Tied,
    Turned,
    UNet,
    Video,
    small,
)
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.utils.flop_counter import FlopCounterMode

import sparsesearch as ss
from sparsesearch.calibration.collect import unfold_patches
from sparsesearch.engine.launch.access import Access
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError
from sparsesearch.files import read_lines, seal
from sparsesearch.models import load_tokenizer
from sparsesearch.models.copying import move_module, plain_copy
from sparsesearch.models.load import DEMO
from sparsesearch.models.source import ModuleSource
from sparsesearch.models.tracing.layers import matrix_of
from sparsesearch.models.tracing.trace import describe_module

GENERATOR = torch.Generator().manual_seed(3)
NUMBERS = torch.randn(24, 8, generator=GENERATOR)
TOKENS = torch.randint(0, 50, (24, 12), generator=GENERATOR)
IMAGES = torch.randn(24, 3, 8, 8, generator=GENERATOR)
SOUNDS = torch.randn(24, 1, 64, generator=GENERATOR)
FILMS = torch.randn(24, 2, 4, 6, 6, generator=GENERATOR)
SERIES = torch.randn(24, 7, 8, generator=GENERATOR)
WIDE_SERIES = torch.randn(24, 7, 16, generator=GENERATOR)


def recipe(kind: str = "channels", quality: str = "kl", cost: str = "macs", **more: Any) -> dict[str, Any]:
    return {
        "units": [{"kind": kind, "levels": 3}],
        "objectives": [quality, cost],
        "batch": 8,
        "data": {"batch_norm": 16, "allow_shared": True},
        "search": {"searcher": "random", "evals": 6},
        "executor": {"kind": "local"},
    } | more


def search(module: nn.Module, data: Any, place: Path, spec: dict[str, Any] | None = None, **more: Any) -> ss.Run:
    sources = {"calibration": data, "selection": data}
    return ss.search(module, spec or recipe(), data=sources, results=place, quiet=True, **more)


def made(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval()


# What they put out

SHAPES: list[tuple[Callable[[], nn.Module], Any, tuple[int, int], int]] = [
    (Texts, (TOKENS,), (1, 5), 1),
    (MaskedTexts, (TOKENS, torch.ones_like(TOKENS)), (1, 5), 1),
    (Language, (TOKENS,), (12, 50), 2),
    (Tied, (TOKENS,), (12, 50), 2),
    (Turned, (TOKENS,), (12, 50), 1),
    (UNet, (IMAGES,), (64, 5), 1),
    (Audio, (SOUNDS,), (1, 6), 1),
    (Video, (FILMS,), (1, 4), 1),
    (lambda: nn.Sequential(nn.Linear(8, 4), nn.Linear(4, 1), nn.Flatten(0)), (NUMBERS,), (1, 1), 1),
]


@pytest.mark.parametrize(("make", "data", "shape", "axis"), SHAPES)
def test_the_axis_of_the_values_is_the_one_that_the_last_layer_writes(
    make: Callable[[], nn.Module], data: Any, shape: tuple[int, int], axis: int
) -> None:
    network = describe_module(made(make), [tensor[:2] for tensor in data])
    assert network.output_shape(12) == shape
    assert network.axis == axis
    assert network.distribution == (shape[1] > 1)


@pytest.mark.parametrize(("make", "axis"), [(Language, -1), (Turned, 1)])
def test_kl_of_a_language_model_is_over_the_words(make: Callable[[], nn.Module], axis: int, tmp_path: Path) -> None:
    module = made(make)
    run = search(module, TOKENS, tmp_path)
    candidate = run.pick("smallest")
    run.export(candidate, tmp_path / "out")
    smaller = ss.load(tmp_path / "out", module=module)
    with torch.no_grad():
        dense, predictions = (model(TOKENS).log_softmax(axis) for model in (module, smaller))
    expected = float((dense.exp() * (dense - predictions)).sum(axis).mean())
    assert expected > 1e-4
    assert candidate.quality == pytest.approx(expected, rel=1e-3)


def test_two_inputs_of_integers(tmp_path: Path) -> None:
    mask = (torch.arange(12) < torch.arange(24)[:, None] % 11 + 1).long()
    results = search(made(MaskedTexts), (TOKENS, mask), tmp_path).results
    assert results.dense is not None
    assert results.dense.quality < 1e-6
    assert all(e.status == "ok" for e in results.evaluations)


class Returning(nn.Module):
    def __init__(self, change: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.change = nn.Linear(8, 4), change

    def forward(self, x: torch.Tensor) -> Any:
        return self.change(self.linear(x))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda y: (y, y), "returns tuple"),
        (lambda y: y.argmax(-1), "returns torch.int64"),
        (lambda y: y.sum(), "shape () for 1 samples"),
        (lambda y: y.expand(3, 4), "shape (3, 4) for 1 samples"),
        (lambda y: torch.view_as_complex(y.view(-1, 2, 2)), "returns torch.complex64"),
    ],
)
def test_outputs_that_are_no_rows_of_floats(change: Callable[..., Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SS211") as caught:
        search(Returning(change), NUMBERS, tmp_path, recipe("sparsity"))
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


# Qualities that see changes


@pytest.mark.parametrize("quality", ["kl", "error"])
def test_qualities_that_are_blind_to_one_output_are_refused(quality: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"SS102 objectives\[0\] '{quality}': .* one number .* Use distance"):
        search(small(outputs=1), NUMBERS, tmp_path, recipe(quality=quality))


def test_distance_is_the_squared_difference_over_the_variance(tmp_path: Path) -> None:
    module = small(outputs=1)
    run = search(module, NUMBERS, tmp_path, recipe(quality="distance"))
    candidate = run.pick("smallest")
    run.export(candidate, tmp_path / "out")
    smaller = ss.load(tmp_path / "out", module=module)
    with torch.no_grad():
        dense, predictions = module(NUMBERS).double(), smaller(NUMBERS).double()
    expected = float((dense - predictions).square().mean() / dense.var(correction=0))
    assert expected > 1e-4
    assert candidate.quality == pytest.approx(expected, rel=1e-3)
    assert run.results.dense is not None
    assert run.results.dense.quality == 0


def test_one_output_is_distilled(tmp_path: Path) -> None:
    """Training lowers the distance, where a divergence of one outcome would teach nothing."""
    rungs = {"searcher": "random", "evals": 6, "rungs": [{"tokens": 4000, "candidates": 2}]}
    spec = recipe(quality="distance", search=rungs, training={"batch": 8, "learning_rate": 3e-3})
    results = search(small(outputs=1), NUMBERS, tmp_path, spec).results
    before = {e.genome: e.quality for e in results.final}
    learned = [e.quality / before[e.genome] for e in results.trained_evaluations if before[e.genome] > 1e-3]
    assert learned
    assert max(learned) < 0.9


@pytest.mark.parametrize(
    "more", [{"pruners": {"width": "taylor"}}, {"training": {"distill": 0.5, "batch": 8}}], ids=["taylor", "distill"]
)
def test_what_needs_a_loss_is_refused_without_a_distribution(more: dict[str, Any], tmp_path: Path) -> None:
    rungs = {"searcher": "random", "evals": 6, "rungs": [{"tokens": 80, "candidates": 2}]}
    with pytest.raises(InputError, match="SS209"):
        search(small(outputs=1), NUMBERS, tmp_path, recipe(quality="distance", search=rungs, **more))


def test_heads_of_several_labels_and_rerankers_are_judged_by_distance(tmp_path: Path) -> None:
    import transformers
    from support import run_search, tiny_model

    config = tiny_model("roberta").config
    for settings in ({"num_labels": 1}, {"num_labels": 3, "problem_type": "multi_label_classification"}):
        torch.manual_seed(0)
        config.update(settings)
        model = transformers.RobertaForSequenceClassification(config)
        place = tmp_path / str(settings["num_labels"])
        model.save_pretrained(place)
        load_tokenizer(DEMO).save_pretrained(place)
        with pytest.raises(InputError, match=r"SS102 objectives\[0\] 'kl'"):
            run_search(tmp_path / f"kl{settings['num_labels']}", place, objectives=["kl", "params"])
        results = run_search(tmp_path / f"run{settings['num_labels']}", place, objectives=["distance", "params"])
        assert results.dense is not None
        assert results.dense.quality < 1e-9
        assert results.pick("smallest").quality > 0


@pytest.mark.parametrize(
    ("quality", "code", "words"),
    [
        (lambda model, samples: 3.0, "SS234", "3 for the dense network and for every damaged one"),
        (lambda model, samples: model.nothing, "SS235", "AttributeError"),
        (lambda model, samples: float("nan"), "SS233", "not finite"),
    ],
)
def test_qualities_of_ones_own_that_say_nothing(quality: Any, code: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        search(small(), NUMBERS, tmp_path, recipe(quality="quality"), quality=quality)
    assert caught.value.code == code
    assert words in str(caught.value)


@pytest.mark.parametrize("count", [5, 9])
def test_a_last_sample_alone_is_no_batch_of_its_own(count: int, tmp_path: Path) -> None:
    """Batch normalisation over one value has no variance."""
    module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    data = {"calibration": NUMBERS[:count], "selection": NUMBERS[-8:]}
    changes = recipe(batch=4) | {"data": {"batch_norm": count, "allow_shared": True}}
    run = ss.search(module, changes, data=data, results=tmp_path, quiet=True)
    assert run.front()
    assert all(e.status == "ok" for e in run.results.evaluations)


def test_norms_over_the_batch_are_refused(tmp_path: Path) -> None:
    module = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16, track_running_stats=False), nn.Linear(16, 4))
    with pytest.raises(InputError, match=r"SS232 layer 1 normalises by batch statistics .*track_running_stats"):
        search(module, NUMBERS, tmp_path, recipe())


def test_tensors_that_repeat_one_value_have_an_identity() -> None:
    module = small()
    module.register_buffer("scale", torch.ones(1).expand(4))
    assert ModuleSource(module).weights_hash == ModuleSource(module).weights_hash


def test_the_probe_of_a_quality_leaves_no_trace() -> None:
    from sparsesearch.engine.launch.soundness import negated

    module = small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with negated(module, ["0.weight", "4.weight"]):
        assert torch.equal(module[0].weight, -before["0.weight"])
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


# What they cost

COUNTED: list[tuple[Callable[[], nn.Module], torch.Tensor]] = [
    (UNet, IMAGES),
    (Audio, SOUNDS),
    (Video, FILMS),
    (Recurrent, SERIES),
    (lambda: Recurrent("GRU"), SERIES),
    (lambda: Recurrent("RNN"), SERIES),
    (Attending, WIDE_SERIES),
    (Language, TOKENS),
    (lambda: small(parametrizations.weight_norm(nn.Linear(32, 32))), NUMBERS),
]


def counted(module: nn.Module, data: torch.Tensor) -> int:
    """Multiply-accumulates a sample with weights, as torch counts them where nothing is fused."""
    # Weights with gradients are multiplied in one piece.
    module = copy.deepcopy(module).requires_grad_(True)
    with torch.backends.mkldnn.flags(enabled=False), FlopCounterMode(display=False) as counter:
        module(data[:2])
    flops = counter.get_flop_counts()["Global"]
    with_weights = (torch.ops.aten.mm, torch.ops.aten.addmm, torch.ops.aten.convolution)
    return sum(n for kind, n in flops.items() if kind in with_weights) // 4


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("make", "data"), COUNTED)
def test_macs_are_what_torch_counts_dense_and_pruned(
    make: Callable[[], nn.Module], data: torch.Tensor, tmp_path: Path
) -> None:
    module = made(make)
    run = search(module, data, tmp_path)
    supernet = open_run(run.results, Access(module)).supernet
    for genome in (run.results.space.dense, run.results.space.smallest):
        costs = run.results.space.costs.named(genome.levels)
        assert costs["macs"] == counted(supernet.materialise(genome), data)


def test_what_is_not_counted_or_not_pruned_is_named() -> None:
    reasons = " ".join(describe_module(made(UNet), [IMAGES[:1]]).unsearchable)
    assert "up (ConvTranspose2d) hold weights that nothing prunes" in reasons
    reasons = " ".join(describe_module(made(Recurrent), [SERIES[:1]]).unsearchable)
    assert "cells (LSTM) hold weights that nothing prunes" in reasons
    reasons = " ".join(describe_module(made(Attending), [WIDE_SERIES[:1]]).unsearchable)
    assert "layer.self_attn.out_proj do not run as layers" in reasons
    assert (
        f"products of activations (attention), {2 * 7 * 7 * 16:,} multiply-accumulates, are not among macs" in reasons
    )


# Which layers are pruned


@pytest.mark.parametrize(
    ("layer", "data"),
    [
        (nn.Conv1d(4, 6, 3, 2, 1, 2, groups=2), torch.randn(3, 4, 17, generator=GENERATOR)),
        (nn.Conv3d(4, 6, (1, 2, 3), (2, 1, 1), 1, groups=2), torch.randn(3, 4, 5, 6, 7, generator=GENERATOR)),
        (nn.Conv1d(4, 6, 3, padding=1, padding_mode="circular"), torch.randn(3, 4, 9, generator=GENERATOR)),
        (nn.Conv2d(4, 6, 3, 2, 1, 2, groups=2), torch.randn(3, 4, 9, 9, generator=GENERATOR)),
    ],
)
def test_patches_times_the_matrix_are_the_convolution(layer: Any, data: torch.Tensor) -> None:
    matrix = matrix_of(layer, "layer", 0, "layer", 1)
    patches = unfold_patches(layer, data, matrix)  # (groups, samples, positions, inputs)
    with torch.no_grad():
        predictions = torch.einsum("gnpi,goi->ngop", patches, matrix.view(layer.weight)).reshape(len(data), 6, -1)
        assert torch.allclose(predictions + layer.bias[:, None], layer(data).flatten(2), atol=1e-5)


@pytest.mark.parametrize(("make", "data"), [(Audio, SOUNDS), (Video, FILMS)])
def test_sparsity_and_channels_of_convolutions_of_one_and_three_dimensions(
    make: Callable[[], nn.Module], data: torch.Tensor, tmp_path: Path
) -> None:
    units = [{"kind": "channels", "levels": 3}, {"kind": "sparsity", "levels": ["50%"]}]
    module = made(make)
    run = search(module, data, tmp_path, recipe(cost="nonzeros", units=units))
    assert {u.module for u in run.results.space.units if u.kind == "sparsity"} == {"a", "b", "head"}
    assert any(u.kind == "channels" for u in run.results.space.units)
    report = run.export(run.pick("smallest"), tmp_path / "out")
    assert report["nonzeros"] == run.pick("smallest").costs["nonzeros"]


class Masked(nn.Module):
    """A parametrisation of one's own."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.tril()


def parametrised(layer: nn.Linear) -> nn.Linear:
    nn.utils.parametrize.register_parametrization(layer, "weight", Masked())
    return layer


PARAMETRISED: dict[str, Callable[[nn.Linear], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "own": parametrised,
    "old weight_norm": weight_norm,
    "old spectral_norm": spectral_norm,
    "mask": lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", PARAMETRISED)
def test_parametrised_layers_are_pruned_as_what_they_compute(name: str, tmp_path: Path) -> None:
    module = small(PARAMETRISED[name](nn.Linear(32, 32)))
    module(NUMBERS)  # old hooks leave tensors with gradients behind
    with torch.no_grad():
        expected = module(NUMBERS)
        plain = plain_copy(module)
        assert torch.allclose(plain(NUMBERS), expected, atol=1e-6)
    assert type(plain[2]) is nn.Linear
    assert isinstance(plain[2].weight, nn.Parameter)
    run = search(module, NUMBERS, tmp_path, recipe("sparsity", cost="nonzeros"))
    with torch.no_grad():
        assert torch.equal(module(NUMBERS), expected)  # as it was given
    levels = run.results.space.units[1].levels
    assert run.results.space.units[1].module == "2"
    assert len(levels) > 2
    report = run.export(run.pick("smallest"), tmp_path / "out")
    assert report["verified"]
    assert int(ss.load(tmp_path / "out", module=module)[2].weight.count_nonzero()) <= levels[0] * 0.5


def test_layers_that_are_not_linear_in_their_weight_are_left_out() -> None:
    network = describe_module(small(Standardised(32, 32)), [NUMBERS[:1]])
    assert "2.weight" not in network.matrices
    assert "2 do something else with their weight than multiply by it and stay as they are" in network.unsearchable

    class Same(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x)

    assert "2.weight" in describe_module(small(Same(32, 32)), [NUMBERS[:1]]).matrices


@pytest.mark.parametrize("make", [Multiplied, UNet])
def test_every_level_of_every_cut_runs(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    units = [{"kind": "channels", "levels": 16, "min_kept": 0.01}]
    module = made(make)
    run = search(module, IMAGES, tmp_path, recipe(units=units))
    assert all(e.status == "ok" for e in run.results.evaluations)
    supernet, space = open_run(run.results, Access(module)).supernet, run.results.space
    for position, unit in enumerate(space.units):
        for level in range(len(unit.levels)):
            levels = np.zeros(len(space.units), dtype=np.int64)
            levels[position] = level
            assert supernet.apply(ss.space.Genome.of(levels))(IMAGES).isfinite().all()
    supernet.apply(space.dense)


def test_cuts_that_hold_at_one_size_alone_are_not_believed() -> None:
    network = describe_module(made(Multiplied), [IMAGES[:1]])
    assert {cut.path for cut in network.cuts.values()} == {"d", "p"}
    assert any("channels of a" in reason and "cannot be cut" in reason for reason in network.unsearchable)


def test_layers_that_data_reach_are_pruned_and_the_others_named() -> None:
    module = made(Mixture)
    with torch.no_grad():
        chosen = set(module.router(torch.relu(module.i(NUMBERS))).argmax(-1).tolist())  # type: ignore[operator]
    network = ModuleSource(module).describe([NUMBERS[:1]], [[part] for part in NUMBERS.split(8)])
    assert 1 < len(chosen) < 6
    assert {name for name in network.matrices if "expert" in name} == {f"experts.{k}.weight" for k in chosen}
    (explanation,) = (reason for reason in network.unsearchable if "do not run as layers" in reason)
    assert all(f"experts.{k}" in explanation for k in {*range(6)} - chosen)


@pytest.mark.parametrize("make", [ByBatch, Mixture])
def test_networks_whose_layers_do_not_run_on_every_input_are_searched(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    run = search(made(make), NUMBERS, tmp_path, recipe("sparsity", cost="nonzeros"))
    assert all(e.status == "ok" for e in run.results.evaluations)
    assert "alone" not in {unit.module for unit in run.results.space.units}


def test_compiled_modules_are_searched_as_what_they_wrap(tmp_path: Path) -> None:
    inner = small()
    module = nn.Sequential(torch.compile(inner[:2]), *inner[2:])
    for name, network in (("whole", torch.compile(inner)), ("part", module)):
        run = search(network, NUMBERS, tmp_path, name=name)
        run.export(run.pick("smallest"), tmp_path / f"{name}-out")
        assert ss.load(tmp_path / f"{name}-out", module=network)(NUMBERS).shape == (24, 4)
    assert hasattr(module[0], "_orig_mod")


def test_sparsity_alone_works_where_channels_cannot_be_traced(tmp_path: Path) -> None:
    run = search(made(Shuffled), NUMBERS, tmp_path, recipe("sparsity", cost="nonzeros"))
    assert len(run.results.space.units) == 3
    with pytest.raises(
        InputError, match=r"SS103 .* It has: sparsity\. channels cannot be cut: Shuffled cannot be traced"
    ):
        search(made(Shuffled), NUMBERS, tmp_path, name="channels")


# What kind of numbers they are made of


class Waves(nn.Module):
    """Complex numbers in a parameter, or in a buffer that is or is not saved."""

    def __init__(self, where: str) -> None:
        super().__init__()
        self.a, self.head = nn.Linear(8, 8), nn.Linear(8, 4)
        turns = torch.polar(torch.ones(4), torch.arange(4.0))
        if where == "parameter":
            self.turns = nn.Parameter(turns)
        else:
            self.register_buffer("turns", turns, persistent=where == "saved")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        turned = torch.view_as_complex(self.a(x).float().view(-1, 4, 2)) * self.turns
        out: torch.Tensor = self.head(torch.view_as_real(turned).flatten(1).to(x.dtype))
        return out


@pytest.mark.parametrize("where", ["saved", "not saved"])
def test_complex_buffers_keep_their_imaginary_parts(where: str, tmp_path: Path) -> None:
    module = made(lambda: Waves(where))

    def away(model: nn.Module, samples: Any) -> torch.Tensor:
        inputs = torch.tensor(samples.arrays["0"])
        with torch.no_grad():
            return (model(inputs) - module(inputs)).square().mean(1)

    run = search(module, NUMBERS, tmp_path, recipe("sparsity", "quality", "nonzeros"), quality=away)
    assert run.results.dense is not None
    assert run.results.dense.quality == 0
    assert run.export(run.pick("smallest"), tmp_path / "out")["verified"]


@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Waves("parameter"), "parameter turns is complex"),
        (nn.Sequential(nn.Linear(8, 8), nn.LazyLinear(4)), "parameter 1.weight has no values yet"),
        (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4, device="meta")), "parameter 1.weight has no values yet"),
        (nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4).half()), "several types (float16, float32)"),
    ],
)
def test_parameters_that_cannot_be_pruned_are_refused(module: nn.Module, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SS232") as caught:
        search(module, NUMBERS, tmp_path, recipe("sparsity"))
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_each_tensor_keeps_its_type(dtype: torch.dtype, tmp_path: Path) -> None:
    module = small(nn.Sequential(nn.Linear(32, 32), nn.LayerNorm(32))).to(dtype)
    module[2][1].float()  # type: ignore[index]
    run = search(module, NUMBERS, tmp_path, recipe("sparsity", cost="nonzeros"))
    assert run.results.dense is not None
    assert run.results.dense.quality < 1e-6
    run.export(run.pick("smallest"), tmp_path / "out")
    loaded = ss.load(tmp_path / "out", module=module)
    assert {n: t.dtype for n, t in loaded.state_dict().items()} == {n: t.dtype for n, t in module.state_dict().items()}


def test_moving_a_module_changes_the_type_of_floats_alone() -> None:
    module = move_module(Waves("saved"), "cpu", torch.float64)
    assert module.a.weight.dtype == torch.float64  # type: ignore[union-attr]
    assert module.turns.dtype == torch.complex64


def test_what_cannot_be_copied_is_one_line(tmp_path: Path) -> None:
    module = small()
    module.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(InputError, match="SS231 Sequential cannot be copied: cannot pickle"):
        search(module, NUMBERS, tmp_path)


# What is not finite


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_weights_that_are_not_finite_are_named_before_anything_is_built(value: float, tmp_path: Path) -> None:
    module = small()
    module[2].weight.data[0, 0] = value
    with pytest.raises(InputError, match=r"SS233 weight 2\.weight holds values that are not finite"):
        search(module, NUMBERS, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_outputs_that_are_not_finite_are_found_on_later_samples(tmp_path: Path) -> None:
    data = NUMBERS.clone()
    data[20, 3] = float("inf")
    with pytest.raises(InputError, match="SS233"):
        search(small(), data, tmp_path)


def test_a_checkpoint_with_nan_is_refused(family_dir: Callable[[str], Path], tmp_path: Path) -> None:
    import shutil

    from safetensors.torch import load_file, save_file
    from support import run_search

    shutil.copytree(family_dir("llama"), tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    state = load_file(path)
    state["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(state, path, {"format": "pt"})
    with pytest.raises(InputError, match=r"SS233 weight model\.layers\.1\.mlp\.up_proj\.weight holds"):
        run_search(tmp_path / "run", tmp_path / "model")
    assert not (tmp_path / ".cache" / "stores").exists() or not list((tmp_path / ".cache" / "stores").glob("*/units"))


# Where every candidate failed


def test_the_first_error_is_shown_where_every_candidate_failed(tmp_path: Path) -> None:
    from sparsesearch.errors import InfeasibleError

    run = search(small(), NUMBERS, tmp_path)
    lines = [line for line, _ in read_lines(run.results.run.archive)]
    dense = copy.deepcopy([0] * len(run.results.space.units))
    for line in lines:
        if line["genome"] != dense:
            line |= {"status": "failed", "error": "RuntimeError: sizes do not match"}
    run.results.run.archive.write_text("".join(seal(json.dumps(line)) + "\n" for line in lines))
    with pytest.raises(InfeasibleError, match="the first failed with: RuntimeError: sizes do not match"):
        ss.Run.open(run.path).pick("smallest")
