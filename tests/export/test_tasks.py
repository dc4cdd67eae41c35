"""Tasks of lm-eval on live models: own files, no network; an export scores as its candidate does."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from sparsesearch.config import ModelConfig
from sparsesearch.engine.reopen import open_run
from sparsesearch.export import export
from sparsesearch.export.measuring.evaluated_model import Dense, locate
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO, weights_hash
from sparsesearch.runs.results import RunResults

lm_eval = pytest.importorskip("lm_eval")

from lm_eval.tasks import TaskManager  # noqa: E402

from sparsesearch.errors import InputError  # noqa: E402
from sparsesearch.export.measuring.tasks import evaluate_tasks, loss_stderr, with_dense  # noqa: E402
from sparsesearch.report.task_table import task_table  # noqa: E402

CHOICES = [
    {"text": f"import {name}", "choices": [" os", " zebra", " return"], "answer": index % 3}
    for index, name in enumerate("abcdefghij")
]
CHOICE = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{text}}}}\\nimport"
doc_to_choice: choices
doc_to_target: answer
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1}}
"""
GROUP = """
group: both
task: [one, two]
aggregate_metric_list:
  - {metric: acc, weight_by_size: true}
metadata: {version: 1}
"""
TEXTS = """
task: texts
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
test_split: test
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{text}}}}"
metric_list:
  - {{metric: word_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}
metadata: {{version: 1}}
"""
ANSWERS = """
task: answers
dataset_path: json
dataset_kwargs: {{data_files: {{test: {folder}/choices.jsonl}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{text}}}}\\nimport"
doc_to_target: " os"
generation_kwargs: {{max_gen_toks: 3, do_sample: false, until: ["\\n"]}}
metric_list:
  - {{metric: exact_match, aggregation: mean, higher_is_better: true}}
metadata: {{version: 1}}
"""
WEIGHTS = weights_hash(DEMO)
NAMES = ["both", "texts", "answers"]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "choices.jsonl").write_text("".join(json.dumps(row) + "\n" for row in CHOICES))
    for name, text in (("one", CHOICE), ("two", CHOICE), ("texts", TEXTS), ("answers", ANSWERS)):
        (folder / f"{name}.yaml").write_text(text.format(name=name, folder=folder))
    (folder / "both.yaml").write_text(GROUP)
    return folder


@pytest.fixture(autouse=True)
def _own_tasks_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The thousands that come with lm-eval take a while to read; documents are not kept in the user's cache."""
    monkeypatch.setattr(
        "lm_eval.tasks.TaskManager", lambda **options: TaskManager(**options | {"include_defaults": False})
    )
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def test_an_export_scores_as_its_candidate_and_dense_loses_nothing(
    small_run: RunResults, tasks: Path, tmp_path: Path, quick_exports: None
) -> None:
    candidate = small_run.pick("smallest")
    export(open_run(small_run), candidate, tmp_path / "out")
    runs = small_run.run.path
    targets = [f"{runs}/{candidate.genome.id}", str(tmp_path / "out"), f"{runs}/{small_run.space.dense.id}"]
    notes: list[str] = []
    report = evaluate_tasks(targets, NAMES, include=tasks, note=notes.append)
    dense, from_run, exported, nothing = report["models"]
    assert [m["dense"] for m in report["models"]] == [None, 0, 0, 0], "one dense model for all that came from it"
    assert len(notes) == 5
    assert report["groups"] == {"both": ["one", "two"]}
    assert report["metrics"]["texts"] == {"word_perplexity": False}
    assert from_run["params"] == exported["params"] == candidate.costs["params"] < dense["params"]
    for task, metrics in from_run["tasks"].items():
        for metric, measured in metrics.items():
            again = exported["tasks"][task][metric]
            assert again.keys() == measured.keys() == {"value", "stderr", "loss", "loss_stderr"}
            for key in ("value", "loss", "loss_stderr"):
                assert again[key] == pytest.approx(measured[key], rel=1e-4, abs=1e-6)
            sign = 1 if report["metrics"][task][metric] else -1
            lost = sign * (dense["tasks"][task][metric]["value"] - measured["value"])
            assert measured["loss"] == pytest.approx(lost)
            assert nothing["tasks"][task][metric]["loss"] == pytest.approx(0, abs=1e-4)
            assert nothing["tasks"][task][metric]["loss_stderr"] == pytest.approx(0, abs=1e-4)
    assert from_run["tasks"]["texts"]["word_perplexity"]["loss_stderr"] > 0
    assert dense["tasks"]["texts"]["word_perplexity"]["value"] == pytest.approx(
        _word_perplexity(tmp_path / "out", runs)
    )
    assert len(task_table(report, Console(width=200)).columns) == 2 + 4 + 3
    assert len(task_table(report, Console(width=80)).columns) == 2 + 3, "one model below another"
    json.dumps(report)


def _word_perplexity(export: Path, run: Path) -> float:
    """Of the dense model on the texts: e to the mean negative log-likelihood of a word."""
    manifest = json.loads((export / "sparsesearch.json").read_text())
    from transformers import AutoModelForCausalLM

    model, tokenizer = AutoModelForCausalLM.from_pretrained(manifest["model"]), load_tokenizer(Path(manifest["model"]))
    total = words = 0.0
    for row in CHOICES:
        ids = torch.tensor(
            [[tokenizer.eos_token_id, *tokenizer(str(row["text"]), add_special_tokens=False)["input_ids"]]]
        )
        logits = torch.log_softmax(model(ids).logits[0, :-1].float(), -1)
        total += float(logits.gather(1, ids[0, 1:, None]).sum())
        words += len(str(row["text"]).split())
    return math.exp(-total / words)


def test_standard_errors_are_of_paired_differences() -> None:
    from lm_eval.api.metrics import mean, pooled_sample_stderr, weighted_perplexity

    class Task:
        def aggregation(self) -> dict[str, Any]:
            return {"acc": mean, "ppl": weighted_perplexity}

    rng = np.random.default_rng(0)
    accuracies, scores = rng.integers(0, 2, (2, 50)), rng.normal(-9, 1, (2, 50))

    def side(index: int) -> dict[str, Any]:
        # A copy of `a` in another order: documents are what pairs them.
        samples = [
            {"doc_id": i, "filter": "none", "acc": float(accuracies[index, i]), "ppl": (scores[index, i], 5)}
            for i in range(50)
        ]
        return {
            "samples": {"a": samples, "b": samples[::-1] if index else samples},
            "group_subtasks": {"g": ["a", "b"]},
            "higher_is_better": {"a": {"acc": True}, "b": {"acc": True}},
        }

    candidate, dense, tasks = side(1), side(0), {"a": Task(), "b": Task()}
    exact = np.std(accuracies[1] - accuracies[0], ddof=1) / np.sqrt(50)
    for name in ("a", "b"):
        assert loss_stderr(name, "acc", "none", candidate, dense, tasks) == pytest.approx(exact)
    pooled = pooled_sample_stderr([exact, exact], [50, 50])
    assert loss_stderr("g", "acc", "none", candidate, dense, tasks) == pytest.approx(pooled)
    # First order: the perplexity's derivative times the error of the mean difference in log-likelihood a word.
    error = loss_stderr("a", "ppl", "none", candidate, dense, tasks)
    assert error is not None
    levels = [math.exp(-scores[i].sum() / 250) for i in range(2)]
    influence = levels[1] * scores[1] / 5 - levels[0] * scores[0] / 5
    assert error == pytest.approx(np.std(influence, ddof=1) / np.sqrt(50), rel=0.2)
    assert loss_stderr("a", "ppl", "none", candidate, side(1), tasks) == 0


def test_what_cannot_be_evaluated_is_said_before_any_work(
    small_run: RunResults, family_dir: Any, tasks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for function in ("sparsesearch.models.source.load_model", "sparsesearch.export.measuring.evaluated_model.open_run"):
        monkeypatch.setattr(function, lambda *a, **k: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=r"SS102.*Did you mean 'texts'"):
        evaluate_tasks(["demo"], ["text"], include=tasks)
    with pytest.raises(InputError, match=r"SS504.*no causal language model"):
        evaluate_tasks([str(family_dir("bert"))], ["texts"], include=tasks)
    with pytest.raises(InputError, match="SS501"):
        evaluate_tasks(["demo", f"{small_run.run.path}/zzzz"], ["texts"], include=tasks)
    with pytest.raises(InputError, match=r"SS504.*is a run"):
        evaluate_tasks([str(small_run.run.path)], ["texts"], include=tasks)
    (tasks / "broken.yaml").write_text(TEXTS.format(folder="/no/such").replace("task: texts", "task: broken"))
    with pytest.raises(InputError, match=r"SS204.*broken cannot be loaded"):
        evaluate_tasks(["demo"], ["broken"], include=tasks)


def test_a_dense_model_that_is_gone_is_said_and_left_out() -> None:
    demo, notes = locate("demo"), list[str]()
    pruned = [
        replace(demo, name=name, dense=Dense(ModelConfig(id=model), weights))
        for name, model, weights in (("gone", "/no/such", "1"), ("changed", "demo", "2"), ("there", "demo", WEIGHTS))
    ]
    models, origin = with_dense([*pruned, pruned[2], demo], notes.append)
    assert [m.name for m in models] == ["dense (demo)", "gone", "changed", "there", "there", "demo"]
    assert origin == [None, None, None, 0, 0, None]
    assert [note.split(":")[0] for note in notes] == ["gone", "changed"]


def test_from_the_command_line(
    tasks: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sparsesearch import cli

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sparsesearch", "evaluate", "demo", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0), *capsys.readouterr()

    code, out, _ = run("--tasks", "one", "--limit", "3", "--include-path", str(tasks), "--json")
    assert code == 0
    assert set(json.loads(out)["models"][0]["tasks"]["one"]["acc"]) == {"value", "stderr"}
    assert "acc" in run("--tasks", "one", "--limit", "3", "--include-path", str(tasks))[1]
    for arguments in (["--limit", "-1"], ["--include-path", "/no/such"], ["--text", "x.txt"]):
        assert run("--tasks", "one", *arguments)[0] == 2
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = run("--tasks", "one")
    assert code == 3
    assert "pip install 'sparsesearch[eval]'" in error
