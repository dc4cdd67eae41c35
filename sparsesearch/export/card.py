"""The model card of an export."""

from __future__ import annotations

from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from sparsesearch.engine.results import RunResults
from sparsesearch.models.task import TASKS
from sparsesearch.searchers import Evaluation

_TEXT = """# {{ title }}

{{ summary }}

## Load

```python
{{ load }}
```

## Costs

| | this model | dense | kept |
|---|---|---|---|
{{ costs }}

## How it was found

{{ found }}

{{ notes }}
"""


def model_card(report: dict[str, Any], results: RunResults, candidate: Evaluation) -> str:
    """Markdown with metadata: what it is, how to load it, what it costs and what is lost."""
    dense = results.space.dense_costs
    costs = "\n".join(
        f"| {name} | {value:,} | {dense[name]:,} | {value / max(dense[name], 1):.1%} |"
        for name, value in candidate.costs.items()
    )
    import_line = "import sparsesearch" if report["form"] == "uneven" else "import transformers"
    load = f"{import_line}\nmodel = {report['load'].replace(report['out'], '.')}"
    if report["form"] == "uneven":
        auto_class = TASKS[results.info["task"]].auto_class
        load += f'\n# or: transformers.{auto_class}.from_pretrained(".", trust_remote_code=True)'
    quality = f"{results.quality} {candidate.quality:.4g} on selection data"
    if candidate.trained:
        quality += f" after {candidate.trained:,} tokens of training"
    base = None if results.info["model"] == "demo" else results.info["model"]
    card = ModelCard.from_template(
        ModelCardData(library_name="transformers", tags=["pruned", "sparsesearch"]),
        template_str=f"---\n{{{{ card_data }}}}\n---\n\n{_TEXT}",
        title=f"{results.info['model']}, pruned ({candidate.genome.id})",
        summary=f"A pruned version of {base or 'the sparsesearch demo model'}: {quality}, form `{report['form']}`.",
        load=load,
        costs=costs,
        found=(
            f"Candidate {candidate.genome.id} of {len(results.evaluations)} evaluations by "
            f"sparsesearch {results.info['versions']['sparsesearch']} "
            f"({results.info['fingerprint']['searcher']}, seed {results.info['fingerprint']['search.seed']}). "
            f"Reloaded by {', '.join(report['verified'])}; largest logit difference {report['max_abs_logit_diff']:.2g}."
        ),
        notes="\n\n".join(report["notes"]),
    )
    return str(card)
