"""Every export form reloads in a fresh process with the logits that were searched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from support import FAMILIES, kinds_of, run_search
from transformers import AutoModelForCausalLM, AutoTokenizer

import sparsesearch as ss
from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import InputError, SparseSearchError
from sparsesearch.export import export, verification
from sparsesearch.export.measuring.quality import evaluate_text
from sparsesearch.models.task import TASKS
from sparsesearch.runs.results import RunResults
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Genome

Make = Callable[[str], Path]


def candidate(results: RunResults, **kept: Any) -> Evaluation:
    """A candidate with chosen levels: `ffn_width=(1, 1, 2)` gives the level in each block."""
    levels = [
        kept[u.kind][u.block] if u.kind in kept and u.block < len(kept[u.kind]) else 0 for u in results.space.units
    ]
    genome = Genome.of(levels)
    return Evaluation(genome, 1, 0, "test", "ok", 1.0, results.space.costs.named(genome.levels))


@pytest.mark.parametrize("family", list(FAMILIES))
@pytest.mark.usefixtures("quick_exports")
def test_uneven_widths_and_dropped_sublayers_reload_everywhere(family: str, family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir(family), units=kinds_of(family_dir(family)))
    experts = any(u.kind == "experts" for u in results.space.units)
    chosen = candidate(
        results,
        sparsity=(1, 2, 0),
        ffn_width=(1, 2, 3),
        kv_groups=(0, 1, 2),
        q_heads=(0, 1),
        experts=(2, 1),
        expert_width=(1, 2),
        drop_attention=(1, 0, 0),
        drop_ffn=(0, 0, 0) if experts else (0, 1, 0),
    )
    report = export(open_run(results), chosen, tmp_path / "out")
    assert report["form"] == "uneven"
    assert report["verified"] == ["sparsesearch.load", "trust_remote_code"]
    assert report["max_abs_logit_diff"] < 1e-5
    for name in ("params", "nonzeros"):
        assert report[name] == chosen.costs[name]
    # Stock code refuses the directory instead of loading it wrongly.
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"].startswith("sparsesearch_")
    if TASKS[results.info["task"]].generates:
        assert evaluate_text(str(tmp_path / "out"), Path(__file__), 16, 4, 2)["params"] == chosen.costs["params"]


@pytest.mark.usefixtures("quick_exports")
def test_uniform_widths_become_a_stock_model(small_run: RunResults, tmp_path: Path) -> None:
    chosen = candidate(
        small_run, ffn_width=(1, 1, 1), kv_groups=(2, 2, 2), drop_attention=(0, 1, 0), drop_ffn=(0, 1, 0)
    )
    report = export(open_run(small_run), chosen, tmp_path / "out")
    assert report["form"] == "uniform"
    assert report["verified"] == ["sparsesearch.load", "transformers"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["model_type"], config["num_hidden_layers"], config["intermediate_size"]) == ("llama", 2, 36)
    assert (config["num_key_value_heads"], config["num_attention_heads"]) == (2, 4)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert sum(p.numel() for p in model.parameters()) == chosen.costs["params"] == report["params"]
    assert not (tmp_path / "out" / "modeling_sparsesearch.py").exists()


@pytest.mark.parametrize("family", ["llama", "gemma2", "qwen3"])
@pytest.mark.usefixtures("quick_exports")
def test_fewer_query_heads_in_every_group_are_a_stock_model(family: str, family_dir: Make, tmp_path: Path) -> None:
    results = run_search(tmp_path / "run", family_dir(family), units=[{"kind": "q_heads"}])
    report = export(open_run(results), candidate(results, q_heads=(1, 1, 1)), tmp_path / "out")
    assert report["form"] == "uniform"
    assert report["params"] == results.space.costs.named(results.space.smallest.levels)["params"]
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["num_key_value_heads"], config["num_attention_heads"]) == (4, 4)


@pytest.mark.usefixtures("quick_exports")
def test_shapes_that_the_stock_configuration_refuses_become_uneven(small_run: RunResults, tmp_path: Path) -> None:
    chosen = candidate(small_run, kv_groups=(1, 1, 1))  # 6 query heads do not divide a hidden size of 32
    assert export(open_run(small_run), chosen, tmp_path / "out")["form"] == "uneven"
    with pytest.raises(InputError, match="SS502 the stock configuration refuses"):
        export(open_run(small_run), chosen, tmp_path / "other", form="uniform")


@pytest.mark.usefixtures("quick_exports")
def test_sparse_weights_stay_in_place_and_are_said_to_gain_nothing(small_run: RunResults, tmp_path: Path) -> None:
    chosen = candidate(small_run, sparsity=(2, 1, 2))
    report = export(open_run(small_run), chosen, tmp_path / "out")
    assert report["form"] == "zeros"
    assert report["params"] == small_run.space.dense_costs["params"]
    assert report["nonzeros"] == chosen.costs["nonzeros"]
    assert "SS503 note" in report["notes"][0]
    assert "neither smaller on disk nor faster" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.usefixtures("quick_exports")
def test_any_candidate_can_be_written_with_zeros(small_run: RunResults, tmp_path: Path) -> None:
    chosen = candidate(small_run, sparsity=(1, 0, 2), ffn_width=(1, 2, 3), kv_groups=(1, 0, 2), drop_ffn=(0, 0, 1))
    report = export(open_run(small_run), chosen, tmp_path / "out", form="zeros")
    assert report["max_abs_logit_diff"] < 1e-4
    assert report["params"] == small_run.space.dense_costs["params"]
    assert report["nonzeros"] == chosen.costs["nonzeros"]


@pytest.mark.usefixtures("quick_exports")
def test_load_gives_a_working_model_and_tokenizer(small_run: RunResults, tmp_path: Path) -> None:
    export(open_run(small_run), small_run.pick("knee"), tmp_path / "out")
    model, tokenizer = ss.load(tmp_path / "out"), AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = torch.tensor([tokenizer("def main():")["input_ids"]])
    assert model.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0).shape[1] <= ids.shape[1] + 4
    card = (tmp_path / "out" / "README.md").read_text()
    assert "sparsesearch" in card
    manifest = json.loads((tmp_path / "out" / "sparsesearch.json").read_text())
    assert {"form", "id", "costs", "objectives", "classes", "kept", "weights_sha256", "load"} <= set(manifest)


def test_half_precision_checkpoints_are_exported_without_loss(tmp_path: Path) -> None:
    """The demo model is bfloat16: what is stored, searched and exported are the same numbers."""
    results = run_search(
        tmp_path / "run", "demo", units=[{"kind": "ffn_width", "levels": 2}, {"kind": "sparsity", "levels": ["50%"]}]
    )
    chosen = candidate(results, ffn_width=(1, 2, 1, 0, 2, 1), sparsity=(1, 0, 1, 1, 0, 1))
    report = export(open_run(results), chosen, tmp_path / "out")
    assert report["max_abs_logit_diff"] == 0.0
    assert ss.load(tmp_path / "out").dtype == torch.bfloat16
    assert report["bytes"] < 1.05 * chosen.costs["bytes"] + 20_000


@pytest.mark.parametrize(
    ("form", "code", "words"),
    [("uniform", "SS502", "differ in ffn_width"), ("unifrom", "SS102", "Did you mean 'uniform'")],
)
def test_forms_that_cannot_be_written(small_run: RunResults, tmp_path: Path, form: str, code: str, words: str) -> None:
    with pytest.raises(InputError) as caught:
        export(open_run(small_run), candidate(small_run, ffn_width=(1, 2, 3)), tmp_path / "out", form=form)
    assert caught.value.code == code
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_is_not_empty_is_left_alone(small_run: RunResults, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"SS500 .* exists and is not empty"):
        export(open_run(small_run), small_run.pick("knee"), tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_the_shipped_code_is_what_runs(small_run: RunResults, tmp_path: Path) -> None:
    """Broken, an export does not verify: the proof would notice."""
    export(open_run(small_run), candidate(small_run, ffn_width=(1, 2, 3)), tmp_path / "out")
    (tmp_path / "out" / "modeling_sparsesearch.py").write_text("raise RuntimeError('shipped code ran')")
    reference = tmp_path / "reference.safetensors"
    tensors = {"input_ids": torch.zeros(1, 8, dtype=torch.long), "outputs": torch.zeros(1, 8, 2048)}
    save_file(tensors, reference, {"auto_class": "AutoModelForCausalLM"})
    with pytest.raises(SparseSearchError, match=r"SS506 .* trust_remote_code in a fresh process: .*shipped code ran"):
        verification._load_freshly(tmp_path / "out", reference, "trust_remote_code")


def test_an_export_that_does_not_verify_leaves_nothing(
    small_run: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparsesearch.supernet import StitchedSupernet

    honest = StitchedSupernet.state_dict

    def lying(self: StitchedSupernet, genome: Genome, padded: bool = False) -> dict[str, torch.Tensor]:
        state = honest(self, genome, padded)
        return state | {"model.norm.weight": state["model.norm.weight"] * 2}

    monkeypatch.setattr(StitchedSupernet, "state_dict", lying)
    with pytest.raises(SparseSearchError, match="SS506 the export differs"):
        export(open_run(small_run), candidate(small_run, ffn_width=(1, 2, 3)), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_loading_what_is_no_export(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"SS504 .* is not an export"):
        ss.load(tmp_path)
