"""Plug-ins that raise, or return something else than they should: one line that names them, at the call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pruning.cases import OPTIONS, group, layer, made
from support import recipe, run_search

from sparsesearch.config import PrunerConfig, RunConfig
from sparsesearch.engine.launch.prepare import prepare
from sparsesearch.errors import InputError
from sparsesearch.evaluation.evaluator import _user_losses
from sparsesearch.plugins import load_plugins
from sparsesearch.proxies import Proxy
from sparsesearch.proxies.gatherer import as_number
from sparsesearch.pruning import (
    Experts,
    expert_order,
    expert_order_named,
    needs_gradients,
    pruner,
    structured,
    unstructured,
)
from sparsesearch.searchers import Proposal, Searcher
from sparsesearch.searchers.registry import create, searcher
from sparsesearch.space import Genome
from sparsesearch.testing import check_pruner
from sparsesearch.testing.registries import restored_registries
from sparsesearch.testing.searchers import UNITS
from sparsesearch.testing.searchers import sparsity_space as space

WEIGHT, MOMENT = layer(outputs=4, inputs=12)


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """Put back what a test registers."""
    with restored_registries():
        yield


def refused(do: Callable[[], object], *words: str) -> None:
    with pytest.raises(InputError) as caught:
        do()
    text = str(caught.value)
    assert text.startswith("SS127")
    assert "\n" not in text
    for word in words:
        assert word in text


def raises(*_: Any) -> Any:
    raise ValueError("boom\nand more")


def leaves(*_: Any) -> Any:
    raise SystemExit(0)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (raises, "raised ValueError: boom"),
        (leaves, "raised SystemExit: 0"),
        (lambda *_: None, "returned None"),
        (lambda *_: [1, 2], "returned list of 2"),
        (lambda *_: torch.ones(4, 12), "returned Tensor of shape (4, 12)"),
        (lambda *_: (torch.ones(3, 12), "row"), "shape (3, 12)"),
        (lambda *_: (torch.ones(4, 12), "column"), "'row' or 'layer'"),
        (lambda *_: (torch.full((4, 12), float("nan")), "row"), "none of them nan"),
        (lambda *_: (np.ones((4, 12)), "row"), "returned ndarray"),
    ],
)
def test_scores_of_weights(score: Any, words: str) -> None:
    pruner("mine", "sparsity")(score)
    refused(lambda: unstructured("mine")(made(WEIGHT, MOMENT), [30, 10], OPTIONS), words)


@pytest.mark.parametrize(
    ("levels", "words"),
    [
        (None, "returned None"),
        ([torch.zeros(4, 12)] * 2, "returned list of 2"),
        (torch.zeros(4, 12), "expected levels of shape (2, 4, 12)"),
        (torch.zeros(3, 4, 12), "shape (3, 4, 12)"),
        (torch.ones(2, 4, 12), "at most 30 nonzeros in a level, got 48"),
        (torch.zeros(2, 4, 12, dtype=torch.complex64), "complex64"),
    ],
)
def test_levels_of_weights(levels: Any, words: str) -> None:
    pruner("mine", "sparsity", scores=False)(lambda *_: levels)
    refused(lambda: unstructured("mine")(made(WEIGHT, MOMENT), [30, 10], OPTIONS), "pruners.sparsity 'mine'", words)


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (raises, "raised ValueError: boom"),
        (lambda *_: None, "returned None"),
        (lambda *_: torch.ones(11), "shape (11,)"),
        (lambda *_: torch.ones(12, 1), "shape (12, 1)"),
        (lambda *_: torch.full((12,), float("nan")), "none of them nan"),
    ],
)
def test_scores_of_elements(score: Any, words: str) -> None:
    pruner("mine", "width")(score)
    refused(lambda: structured("mine")(group(WEIGHT, MOMENT, 1), [6, 3], OPTIONS), words)


ORDER = torch.arange(12)
LEVELS = [[torch.zeros(4, 6)], [torch.zeros(4, 3)]]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (None, "returned None"),
        (ORDER, "an order and levels"),
        ((ORDER.tolist(), LEVELS), "9 different indices from 0 to 11"),
        ((ORDER[:8], LEVELS), "shape (8,)"),
        ((ORDER.float(), LEVELS), "float32"),
        ((ORDER + 1, LEVELS), "9 different indices"),
        ((ORDER.clamp(max=5), LEVELS), "9 different indices"),
        ((ORDER, LEVELS[:1]), "expected 2 levels"),
        ((ORDER, [[], []]), "weights of 1 matrices"),
        ((ORDER, LEVELS[::-1]), "expected weights of shape (4, 6)"),
        ((ORDER, [[None], [None]]), "returned None"),
    ],
)
def test_orders_and_levels_of_elements(found: Any, words: str) -> None:
    pruner("mine", "width", scores=False)(lambda *_: found)
    refused(lambda: structured("mine")(group(WEIGHT, MOMENT, 1), [6, 3], OPTIONS), "pruners.width 'mine'", words)


@pytest.mark.parametrize("order", [None, [0, 1, 2], torch.tensor([0, 1]), torch.tensor([0, 1, 1]), torch.ones(3)])
def test_orders_of_experts(order: Any) -> None:
    expert_order("mine")(lambda _: order)
    experts = Experts(torch.ones(3, 4), *(torch.ones(3) for _ in range(3)))
    refused(lambda: expert_order_named("mine")(experts), "pruners.experts 'mine'", "3 different indices from 0 to 2")


@pytest.mark.parametrize("of", ["sparsity", "width"])
def test_a_pruner_that_needs_gradients_says_so(of: Any) -> None:
    plain = PrunerConfig(sparsity="wanda", width="magnitude")
    pruner("mine", of, needs_gradients=True)(raises)
    assert not needs_gradients(plain)
    assert needs_gradients(plain.model_copy(update={of: "mine"}))


def test_a_search_gathers_gradients_for_a_pruner_that_needs_them(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        """from sparsesearch.pruning import pruner

@pruner("mine", "width", needs_gradients=True)
def mine(group, options):
    return sum(writer.gradient_square.sum(dim=(1, 2)) for writer in group.writers)
"""
    )
    results = run_search(tmp_path / "run", "demo", plugins=[str(path)], pruners={"width": "mine"})
    assert results.front
    check_pruner("mine", "width")


def searching(generation: Any) -> Searcher:
    class Mine(Searcher):
        """A searcher of somebody's."""

        def generation(self, index: int, rng: np.random.Generator) -> Any:
            return generation()

    return Mine(space(), ["kl", "nonzeros"], 0, Searcher.Options())


def proposal(**changes: Any) -> Proposal:
    return Proposal(**{"genome": Genome.of([1] * UNITS), "tokens": 8, "draw": 0, "origin": "mine"} | changes)


def endless() -> Any:
    while True:
        yield proposal()


@pytest.mark.parametrize(
    ("generation", "words"),
    [
        (raises, "raised ValueError: boom"),
        (leaves, "raised SystemExit"),
        (lambda: None, "returned None, expected a list"),
        (endless, "returned generator, expected a list"),
        (lambda: [None], "None is no Proposal"),
        (lambda: [proposal(genome=[1] * UNITS)], "list of 16 is no Genome"),
        (lambda: [proposal(genome=Genome.of([1]))], "a genome of 1 levels, the space has 16 units"),
        (lambda: [proposal(genome=Genome(b"x" * 33))], "a genome of 16 levels"),
        (lambda: [proposal(genome=Genome.of([10] * UNITS))], "level 10 of l0.sparsity, whose last is 9"),
        (lambda: [proposal(genome=Genome.of([-1] * UNITS))], "level -1 of l0.sparsity"),
        (lambda: [proposal(tokens=-1)], "tokens -1"),
        (lambda: [proposal(tokens=None)], "tokens None"),
        (lambda: [proposal(tokens=8.5)], "tokens 8.5"),
        (lambda: [proposal(draw=-1)], "draw -1"),
        (lambda: [proposal(trained=10**30)], "trained 1000000000000000000000000000000"),
        (lambda: [proposal(origin=3)], "an origin that is no text"),
    ],
)
def test_proposals(generation: Any, words: str) -> None:
    refused(lambda: searching(generation).ask(4), "searcher Mine", words)


def test_what_can_be_measured_is_proposed() -> None:
    assert searching(lambda: [proposal(), proposal(tokens=np.int64(8), draw=1)]).ask(4)[0] == proposal()


def test_a_searcher_that_cannot_be_made_is_named() -> None:
    class Mine(Searcher):
        generation = raises

        def __init__(self, *_: Any) -> None:
            raise RuntimeError("boom")

    searcher("mine")(Mine)
    refused(lambda: create("mine", space(), ["kl", "nonzeros"], 0, {}), "searcher 'mine' raised RuntimeError: boom")


@pytest.mark.parametrize("found", [None, "high", [1.0, 2.0], torch.ones(2), [[1.0]] * 2, {}, [None] * 3])
def test_qualities(found: Any) -> None:
    refused(lambda: _user_losses(found, 3), "the function `quality` returned", "a loss, or one of each of 3 samples")


@pytest.mark.parametrize("found", [2, 2.0, torch.tensor(2.0), [2.0] * 3, torch.full((3, 1), 2.0), np.full(3, 2.0)])
def test_qualities_of_all_or_of_each(found: Any) -> None:
    assert _user_losses(found, 3).tolist() == [2.0] * 3


@pytest.mark.parametrize("value", [None, "1.5", float("nan"), torch.ones(2), torch.tensor(float("nan")), 1j, [1.0]])
def test_scores_of_proxies(value: Any) -> None:
    with pytest.raises(ValueError, match=r"proxy mine returned .*, not one number"):
        as_number(Proxy("mine", "costs", lambda _: 0.0), value)


def test_a_plugin_that_leaves_does_not_end_as_success(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import sys\nsys.exit(0)\n")
    with pytest.raises(InputError, match=r"SS125 plugins: .*mine.py' cannot be imported: SystemExit"):
        load_plugins([str(path)])


@pytest.mark.parametrize(
    ("start", "body", "changes", "words"),
    [
        (
            "from sparsesearch.pruning import pruner",
            "@pruner('mine', 'width')\ndef mine(group, options):\n    return None\n",
            {"pruners": {"width": "mine"}},
            "score 'mine' returned None",
        ),
        (
            "from sparsesearch.searchers.registry import searcher\nfrom sparsesearch.searchers import Searcher",
            "@searcher('mine')\nclass Mine(Searcher):\n    def generation(self, *_):\n        raise KeyError('boom')\n",
            {"search": {"searcher": "mine", "evals": 4}},
            "searcher Mine raised KeyError",
        ),
    ],
)
def test_a_search_with_such_a_plugin_ends_with_the_line(
    tmp_path: Path, start: str, body: str, changes: dict[str, Any], words: str
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{start}\n\n{body}")
    refused(lambda: run_search(tmp_path / "run", "demo", plugins=[str(path)], **changes), words)


def test_objectives_are_named_once() -> None:
    tree = recipe("demo", objectives=["kl", "params", "params"])
    with pytest.raises(InputError, match="SS102 objectives name 'params' twice"):
        prepare(RunConfig.model_validate(tree))
