"""The model card of an export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from sparsesearch.errors import printable
from sparsesearch.export.card_figure import FIGURE
from sparsesearch.export.forms.registry import FORMS
from sparsesearch.media import markdown
from sparsesearch.models.task import TASKS
from sparsesearch.runs.results import RunResults, name_in_tests
from sparsesearch.searchers import Evaluation
from sparsesearch.space import Unit

_TEXT = """# {{ title }}

{{ summary }}

![The front of the search, and this model]({{ figure }})

## Load

```python
{{ load }}
```

{{ why }}

## Quality

{{ quality }}

## Costs

| | this candidate | dense | kept |
|---|---|---|---|
{{ costs }}

## What each layer keeps

| layer | keeps |
|---|---|
{{ layers }}

## How it was found

{{ origin }}

{{ notes }}
"""

_GRAPH_LINES = {
    "onnx": 'onnxruntime.InferenceSession("{}/model.onnx")',
    "torch_export": 'torch.export.load("{}/model.pt2").module()',
}


def load_line(form: str, out: Path, auto_class: str) -> str:
    """Return the line of Python that loads an export.

    Args:
        auto_class: name of the Auto class of transformers; empty for a user's module.
    """
    if form in _GRAPH_LINES:
        return _GRAPH_LINES[form].format(out)
    if form in ("uneven", "nemotron_nas") or not auto_class:
        return f'sparsesearch.load("{out}")'
    return f'transformers.{auto_class}.from_pretrained("{out}")'


def model_card(report: dict[str, Any], manifest: dict[str, Any], results: RunResults, candidate: Evaluation) -> str:
    """Return a model card in Markdown: how to load it, its quality, its costs, and how much each layer keeps.

    Args:
        report: report that `export` returns.
        manifest: further entries of the export's manifest.
    """
    dense = results.space.dense_costs
    costs = "\n".join(
        f"| {markdown(name)} | {value:,} | {dense[name]:,} | {value / max(dense[name], 1):.1%} |"
        for name, value in candidate.costs.items()
    )
    base = None if results.info["model"] == "demo" else results.info["model"]
    form = report["form"]
    card = ModelCard.from_template(
        ModelCardData(library_name=_library(form, manifest), tags=["pruned", "sparsesearch"]),
        template_str=f"---\n{{{{ card_data }}}}\n---\n\n{_TEXT}",
        title=markdown(f"{results.info['model']}, pruned ({candidate.genome.id})"),
        summary=f"A pruned version of {markdown(base or 'the sparsesearch demo model')}: "
        f"{_quality(results, candidate)}, form `{form}` ({FORMS[form].about}).",
        figure=FIGURE,
        load=_how_to_load(report, manifest),
        why=markdown(f"This form: {report['why']}."),
        quality=_qualities(results, candidate),
        costs=costs,
        layers=_layers(results, candidate),
        origin=markdown(
            f"Candidate {candidate.genome.id} of {len(results.evaluations)} evaluations by "
            f"sparsesearch {results.info['versions']['sparsesearch']} "
            f"({results.info['fingerprint']['searcher']}, seed {results.info['fingerprint']['search.seed']}). "
            f"Reloaded by {', '.join(report['verified'])}; largest logit difference {report['max_abs_logit_diff']:.2g}."
        ),
        notes="\n\n".join(map(markdown, report["notes"])),
    )
    return str(card)


def _library(form: str, manifest: dict[str, Any]) -> str:
    if form == "onnx":
        return "onnx"
    return "transformers" if "classes" in manifest else "pytorch"


def _how_to_load(report: dict[str, Any], manifest: dict[str, Any]) -> str:
    """Return the code of every verified way of loading."""
    form, auto_class = report["form"], TASKS[manifest["task"]].auto_class
    line = load_line(form, Path(), auto_class)
    text = f"import {line.partition('.')[0]}\nmodel = {line}"
    if form in _GRAPH_LINES:
        return f'{text}  # inputs: {printable(", ".join(manifest["inputs"]))}\n# or: sparsesearch.load(".")'
    if form in ("uneven", "nemotron_nas") and auto_class:
        text += f'\n# or: transformers.{auto_class}.from_pretrained(".", trust_remote_code=True)'
    elif auto_class:
        text += '\n# or: sparsesearch.load(".")'
    if form == "nemotron_nas":
        text += "\n# vLLM (not run by sparsesearch): vllm serve . --trust-remote-code"
    return text


def _quality(results: RunResults, candidate: Evaluation) -> str:
    text = f"{markdown(results.quality)} {candidate.quality:.4g} on selection data"
    return f"{text} after {candidate.trained:,} tokens of training" if candidate.trained else text


def _qualities(results: RunResults, candidate: Evaluation) -> str:
    """Return quality, and test values if the run has them, with those of the dense model."""
    lines = [f"{_quality(results, candidate)}"]
    if results.dense:
        lines[0] += f" (dense {results.dense.quality:.4g})"
    tests = results.run.read(results.run.test) if results.run.test.exists() else {}
    if name_in_tests(candidate) in tests:
        line = f"{results.test_metric} {tests[name_in_tests(candidate)]:.4g} on test data"
        if results.dense and name_in_tests(results.dense) in tests:
            line += f" (dense {tests[name_in_tests(results.dense)]:.4g})"
        lines.append(line)
    else:
        lines.append("not measured on test data")
    return "; ".join(lines) + "."


def _layers(results: RunResults, candidate: Evaluation) -> str:
    """Return a row for each block with what its pruned units keep."""
    rows: dict[int, list[str]] = {block: [] for block in range(results.info["blocks"])}
    for unit, level in zip(results.space.units, candidate.genome.levels.tolist(), strict=True):
        if level:
            rows[unit.block].append(_keeps(unit, level))
    return "\n".join(f"| {block} | {', '.join(kept) or 'everything'} |" for block, kept in rows.items())


def _keeps(unit: Unit, level: int) -> str:
    leaf = markdown(unit.module.rsplit(".", 1)[-1])
    if unit.kind.startswith("drop_"):
        return f"no {unit.kind.removeprefix('drop_')} ({leaf})"
    kept, total = unit.levels[level], unit.levels[0]
    if unit.kind == "sparsity":
        return f"{leaf} {kept / total:.1%} of the weights"
    return f"{leaf} {kept:,} of {total:,} {_ELEMENTS.get(unit.kind, unit.kind.replace('_', ' '))}"


_ELEMENTS = {
    "ffn_width": "neurons",
    "kv_groups": "KV groups",
    "q_heads": "query heads a group",
    "expert_width": "neurons an expert",
    "kernel": "taps a side",
}
