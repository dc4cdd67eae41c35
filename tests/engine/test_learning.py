"""Learned searches as runs: archive, ledger, resume, seeds of other searches, and what is refused before they begin."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import make
from support import launched, recipe, run_search

import sparsesearch as ss
from sparsesearch.bilevel.alternation import Alternation
from sparsesearch.config import RunConfig
from sparsesearch.engine import controller
from sparsesearch.engine.launch import learning_plan as learning_checks
from sparsesearch.engine.launch.learning_plan import memory_note
from sparsesearch.engine.reopen import open_run
from sparsesearch.engine.workflows import recover as recovering
from sparsesearch.errors import EnvironmentProblem, InputError, SparseSearchError
from sparsesearch.export import load, write
from sparsesearch.runs.progress import Reporter
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers.learned.base import LearnedTraits

Make = Callable[[str], Path]
WIDTHS = [{"kind": "ffn_width", "levels": 6}, {"kind": "kv_groups"}]
SPARSITY = [{"kind": "sparsity", "levels": 6}]
# Gradient tokens of eight steps of two samples with 16 tokens, weights and choice.
TOKENS = 8 * 2 * 2 * 16


def changes(searcher: str, units: Any = WIDTHS, **more: Any) -> dict[str, Any]:
    options = {"tokens": TOKENS, "sizes": ["params<=95%", "params<=90%"]} | more.pop("options", {})
    return {
        "units": units,
        "objectives": ["kl", "params"],
        "training": {"batch": 2, "learning_rate": 1e-3},
        "search": {"searcher": searcher, "final": 4, "options": options},
    } | more


def sparse(searcher: str, **more: Any) -> dict[str, Any]:
    options = {"sizes": ["nonzeros<=90%", "nonzeros<=82%"]} | more.pop("options", {})
    return changes(searcher, SPARSITY, objectives=["kl", "nonzeros"], options=options, **more)


def seconds_off(results: RunResults) -> list[tuple[str, int]]:
    return [(line["phase"], line["tokens"]) for line in results.run.lines(results.run.ledger)]


@pytest.fixture(scope="module")
def cofi(family_dir: Make, tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    return run_search(tmp_path_factory.mktemp("learned") / "run", family_dir("llama"), **changes("cofi"))


def test_each_size_is_a_candidate_and_what_was_learned_is_kept(cofi: RunResults) -> None:
    learned = {e.origin: e for e in cofi.evaluations if e.origin.startswith("learned")}
    assert set(learned) == {"learned params<=95%", "learned params<=90%"}
    for share, evaluation in zip((0.95, 0.9), learned.values(), strict=True):
        assert 0.8 * share < evaluation.costs["params"] / cofi.space.dense_costs["params"] <= share
    trained = {e.genome: e for e in cofi.learned}
    assert set(trained) == {e.genome for e in learned.values()}
    assert all(e.trained == TOKENS and e.origin == "learned" for e in trained.values())
    assert all(cofi.run.trials.glob(f"{genome.id}/{TOKENS}.safetensors") for genome in trained)
    assert not cofi.trained_evaluations
    # Whichever is better of a genome with the store's weights and with its own.
    for candidate in cofi.front:
        rival = cofi.find(candidate.genome.id)
        assert rival == candidate
    both = [(e.quality, trained[e.genome].quality) for e in learned.values()]
    assert {min(pair) for pair in both} >= {e.quality for e in cofi.front if e.genome in trained}


def test_gradient_tokens_are_counted_three_times(cofi: RunResults) -> None:
    assert sum(tokens for phase, tokens in seconds_off(cofi) if phase == "learning") == 3 * 2 * TOKENS
    launch = launched("demo", **changes("cofi") | {"search": {"searcher": "cofi", "tokens": 600_000}})
    traits = launch.traits
    assert isinstance(traits, LearnedTraits)
    tokens = learning_checks.learning_tokens(launch.config, traits, launch.samples)
    measured = (3 + traits.baselines) * launch.samples["selection"].size
    assert 600_000 - 9 < measured + 3 * 3 * tokens <= 600_000


def test_what_was_learned_is_exported_as_it_was_measured(cofi: RunResults, tmp_path: Path, quick_exports: None) -> None:
    candidate = cofi.learned[0]
    done = write.export(open_run(cofi), candidate, tmp_path / "out")
    assert done["verified"]
    assert done["params"] == candidate.costs["params"]
    model = load(tmp_path / "out")
    assert sum(p.numel() for p in {id(p): p for p in model.parameters()}.values()) == done["params"]


@pytest.mark.parametrize("searcher", ["bip", "besa"])
def test_a_killed_run_goes_on_to_the_same_bytes(
    family_dir: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, searcher: str
) -> None:
    """Killed in the middle of the second size, with a checkpoint after each step."""
    whole = run_search(tmp_path / "whole", family_dir("llama"), **sparse(searcher))
    monkeypatch.setattr("sparsesearch.engine.phases.learning.SECONDS_PER_CALL", 0.0)
    advance, steps = Alternation.advance, []

    def dying(self: Alternation) -> None:
        steps.append(1)
        if len(steps) == 12:
            raise KeyboardInterrupt
        advance(self)

    monkeypatch.setattr(Alternation, "advance", dying)
    with pytest.raises(KeyboardInterrupt):
        run_search(tmp_path / "run", family_dir("llama"), **sparse(searcher))
    monkeypatch.undo()
    resumed = controller.resume(tmp_path / "run", {}, Reporter(quiet=True))
    assert resumed.run.archive.read_bytes() == whole.run.archive.read_bytes()
    assert resumed.run.trained.exists() == whole.run.trained.exists()
    if searcher == "bip":
        assert resumed.run.trained.read_bytes() == whole.run.trained.read_bytes()
    paid = [sum(t for phase, t in seconds_off(r) if phase == "learning") for r in (whole, resumed)]
    assert paid[0] == 3 * 2 * TOKENS
    # The step that was cut off has to be made again; no other is paid for twice.
    assert paid[1] == paid[0]


def test_cold_sizes_and_seeds_are_learned_side_by_side(family_dir: Make, tmp_path: Path) -> None:
    options = {"warm": False, "repeats": 2}
    results = run_search(tmp_path / "run", family_dir("llama"), **changes("gates", options=options))
    plans = sorted(p.name for p in results.run.learning.iterdir())
    assert plans == ["0-0", "0-1", "1-0", "1-1"]
    names = [json.loads(p.read_text())["size"] for p in sorted(results.run.learning.glob("*/0.json"))]
    assert names == ["params<=95%", "params<=90%"] * 2
    assert 2 <= len([e for e in results.evaluations if e.origin.startswith("learned")]) <= 4


@pytest.mark.ray
def test_ray_learns_the_same(cluster: str, family_dir: Make, tmp_path: Path) -> None:
    options = {"warm": False}
    reference = run_search(tmp_path / "local", family_dir("llama"), **changes("gates", options=options))
    result = run_search(
        tmp_path / "ray",
        family_dir("llama"),
        **changes("gates", options=options),
        executor={"kind": "ray", "workers": 2},
    )
    assert result.run.archive.read_bytes() == reference.run.archive.read_bytes()
    assert result.run.trained.read_bytes() == reference.run.trained.read_bytes()


def test_its_front_seeds_another_search(cofi: RunResults, family_dir: Make, tmp_path: Path) -> None:
    search = {"searcher": "random", "evals": 8, "final": 2, "seeds": [str(cofi.run.path), "uniform"]}
    results = run_search(tmp_path / "run", family_dir("llama"), **changes("cofi") | {"search": search})
    assert {e.genome for e in cofi.front} <= {e.genome for e in results.evaluations}
    again = RunConfig.model_validate(recipe(family_dir("llama")) | changes("cofi") | {"search": search})
    assert again.search.seeds[0] == str(cofi.run.path)


def channels(searcher: str) -> dict[str, Any]:
    return {
        "units": [{"kind": "channels", "levels": 4, "min_kept": "25%"}],
        "objectives": ["kl", "macs"],
        "training": {"batch": 8, "learning_rate": 1e-3},
        "executor": {"kind": "local"},
        "search": {"searcher": searcher, "options": {"tokens": 8 * 8, "sizes": ["macs<=60%"]}},
    }


def test_channels_are_learned_with_live_batch_statistics(tmp_path: Path) -> None:
    """And end with statistics of their own, measured on calibration images."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(24, 3, 16, 16)).astype(np.float32)
    data = {"calibration": images[:16], "selection": images[16:]}
    run = ss.search(make("padded"), channels("oto"), data=data, results=tmp_path, name="cnn")
    (result,) = run.results.learned
    assert result.costs["macs"] <= 0.6 * run.results.space.dense_costs["macs"]
    # Measured again from its file: what is reported is what is kept.
    losses = json.loads((run.results.run.learning / "0-0" / "0.json").read_text())["losses"]
    assert result.quality == pytest.approx(float(np.mean(losses)))


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    (changes("besa"), "SS111", "cannot choose units of kind ffn_width"),
    (changes("bip", [*WIDTHS, *SPARSITY]), "SS111", "learns sparsity or"),
    (sparse("oto"), "SS111", "cannot choose units of kind sparsity"),
    (sparse("maskllm", options={"sizes": []}), "SS114", "pruners.pattern"),
    (
        changes(
            "hydra",
            [{"kind": "sparsity", "levels": ["50%"]}],
            pruners={"pattern": "2:4"},
            objectives=["kl", "nonzeros"],
            options={"sizes": ["nonzeros<=95%"]},
        ),
        "SS114",
        "Use maskllm",
    ),
    (changes("gates", pruners={"compensate": True}), "SS114", "compensate"),
    (changes("gates", options={"sizes": ["params<=1%"]}), "SS106", "cannot be met"),
    (changes("gates", options={"sizes": ["parms<=90%"]}), "SS101", "Did you mean 'params'"),
    (changes("tas", options={"temperature": 0}), "SS101", "search.options.temperature"),
    (changes("bip", options={"lower": 0}), "SS101", "weights that move need steps of their own"),
    (changes("tas", options={"weights": "frozen"}), "SS101", "frozen take no steps of their own: lower: 0"),
    (changes("oto", options={"weights": "lora"}), "SS101", "search.options.weights"),
    (changes("oto", options={"warmup": 0.6}), "SS101", "warmup < ramp"),
    (sparse("besa", options={"weights": "full"}), "SS101", "search.options.weights"),
    (sparse("maskllm", pruners={"pattern": "2:4"}), "SS101", "the pattern is the size"),
    (sparse("maskllm", options={"sizes": []}, pruners={"pattern": "2:4"}), "SS104", "has one pruned level"),
    (changes("gates", options={"tokens": 31}), "SS118", "31 gradient tokens for each size are less than one step"),
    (changes("gates", training={"batch": 10**4}), "SS118", "less than one step takes"),
]


@pytest.mark.parametrize(("tree", "code", "words"), MISTAKES)
def test_mistakes_are_told_before_anything_runs(family_dir: Make, tree: dict[str, Any], code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        launched(family_dir("llama"), **tree)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_hours_are_refused(family_dir: Make) -> None:
    tree = changes("gates")
    tree["search"] |= {"hours": 1}
    with pytest.raises(
        InputError, match=r"SS114 .* a limit in hours could end it before. Use search.tokens \(--tokens\)"
    ):
        launched(family_dir("llama"), **tree)


def test_classes_are_needed_where_the_tasks_own_loss_counts(tmp_path: Path) -> None:
    images = np.random.default_rng(0).normal(size=(24, 3, 16, 16)).astype(np.float32)
    data = {"calibration": images[:16], "selection": images[16:]}
    tree = channels("gates")
    tree["training"] |= {"distill": 0.5}
    with pytest.raises(InputError, match=r"SS212 training data have no labels"):
        ss.search(make("padded"), tree, data=data, results=tmp_path, name="cnn")


def test_rungs_are_refused(family_dir: Make) -> None:
    tree = changes("gates")
    tree["search"] |= {"rungs": [{"tokens": 64, "candidates": 1}]}
    with pytest.raises(InputError, match=r"SS114 .* rungs would train those of the level store"):
        launched(family_dir("llama"), **tree)


def test_seeds_that_are_no_run(family_dir: Make, tmp_path: Path, cofi: RunResults) -> None:
    for seeds, words in (([str(tmp_path / "nothing")], "SS600 .* is not a run directory"), (["owll"], "SS102")):
        with pytest.raises(InputError, match=words):
            launched(family_dir("llama"), search={"searcher": "random", "evals": 8, "seeds": seeds})
    with pytest.raises(InputError, match=r"SS602 search.seeds: .* is a run of another model"):
        launched("demo", search={"searcher": "random", "evals": 8, "seeds": [str(cofi.run.path)]})


def test_too_little_memory_is_refused_and_what_is_needed_is_told(
    family_dir: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    launch = launched(family_dir("llama"), **sparse("bip"))
    assert isinstance(launch.traits, LearnedTraits)
    arguments = (launch.config, launch.traits, launch.network, launch.space, launch.samples)
    assert "Learning holds about" in memory_note(*arguments)
    monkeypatch.setattr(learning_checks, "free_bytes", lambda _: 1000.0)
    with pytest.raises(EnvironmentProblem, match=r"SS308 learning with bip needs about .* GB a worker"):
        launched(family_dir("llama"), **sparse("bip"))


def test_the_estimate_of_memory_grows_with_what_is_learned(family_dir: Make) -> None:
    needs = {}
    for name in ("gates", "cofi"):
        launch = launched(family_dir("llama"), **changes(name))
        traits = launch.traits
        assert isinstance(traits, LearnedTraits)
        needs[name] = learning_checks.needed_bytes(launch.config, launch.network, launch.space, traits, launch.samples)
    assert needs["cofi"] > needs["gates"]


def test_samples_that_weights_and_choice_share_are_warned_of(family_dir: Make) -> None:
    launch = launched(family_dir("llama"), **sparse("bip"))
    twice = launch.samples["calibration"].rows([0, 0, 1, 2])
    samples = launch.samples | {"calibration": twice}
    traits = launch.traits
    assert isinstance(traits, LearnedTraits)
    note = memory_note(launch.config, traits, launch.network, launch.space, samples)
    assert "SS411 1 training samples occur twice" in note
    assert "SS411" not in memory_note(launch.config, traits, launch.network, launch.space, launch.samples)


def test_a_size_that_diverges_is_told_and_its_state_counts(family_dir: Make, tmp_path: Path) -> None:
    notes: list[str] = []

    class Listening(Reporter):
        def message(self, text: str) -> None:
            notes.append(text)

    tree = changes("cofi", training={"batch": 2, "learning_rate": 1e30, "clip": 1e30, "optimizer": "sgd", "warmup": 0})
    try:
        results = controller.start(launched(family_dir("llama"), **tree), tmp_path / "run", Listening(quiet=True))
    except SparseSearchError as error:
        pytest.fail(str(error))
    assert any(text.startswith("SS408 learning params<=95%: gradients that are no numbers at") for text in notes), notes
    assert results.final


def test_what_was_learned_is_recovered(cofi: RunResults, tmp_path: Path) -> None:
    """From the learned weights, also with other training options than those that it was learned with."""
    shutil.copytree(cofi.run.path, tmp_path / "run")
    shutil.copytree(cofi.run.path.parent / ".cache", tmp_path / ".cache")
    results = RunResults(tmp_path / "run")
    candidate = results.learned[0]
    launch = recovering.prepare_recovery(results, {"training.learning_rate": 1e-30, "training.batch": 1}, 16)
    (done,) = recovering.recover(launch, [candidate], Reporter(quiet=True))
    assert done.quality == pytest.approx(candidate.quality, rel=1e-5), "a step that moves nothing changes nothing"


def test_another_budget_is_another_run(cofi: RunResults, tmp_path: Path) -> None:
    shutil.copytree(cofi.run.path, tmp_path / "run")
    for budget in ({"search.options.tokens": 2 * TOKENS}, {"training.learning_rate": 0.5}):
        with pytest.raises(InputError, match=r"SS602 .* changed since the run began"):
            controller.resume(tmp_path / "run", budget, Reporter(quiet=True))


def test_rules_seed_what_is_learned(family_dir: Make, tmp_path: Path) -> None:
    tree = sparse("besa")
    tree["search"] |= {"seeds": ["owl"]}
    results = run_search(tmp_path / "run", family_dir("llama"), **tree)
    assert {"learned nonzeros<=90%", "learned nonzeros<=82%"} <= {e.origin for e in results.final}
    assert any(e.origin.startswith("owl") for e in results.evaluations)
    assert results.front_json()["learning_tokens"] == 3 * 2 * TOKENS


def test_learning_again_pays_nothing(cofi: RunResults, tmp_path: Path) -> None:
    shutil.copytree(cofi.run.path, tmp_path / "run")
    before = (tmp_path / "run" / "ledger.jsonl").read_text()
    controller.resume(tmp_path / "run", {}, Reporter(quiet=True))
    assert "learning" not in (tmp_path / "run" / "ledger.jsonl").read_text()[len(before) :]
