"""Proof that an export loads: a script of its own, `python verify.py DIR REFERENCE WAY`, run in a fresh process a way.

WAY is `sparsesearch.load`, `transformers` or `trust_remote_code`; only the first imports sparsesearch, so the others
show what users without it get. Compares outputs with what the search executed, counts parameters and nonzeros,
generates with a cache where the model does that, and prints one JSON document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers.utils import logging

# Largest logit difference in float32 that still counts as the same model; summation order accounts for 1e-4.
TOLERANCE = 1e-3
WAYS = {
    "zeros": ("sparsesearch.load", "transformers"),
    "uniform": ("sparsesearch.load", "transformers"),
    "uneven": ("sparsesearch.load", "trust_remote_code"),
}


def load_by(way: str, directory: Path, auto_class: str) -> Any:
    """The export in float32; raises ValueError where transformers reports missing or unexpected weights."""
    if way == "sparsesearch.load":
        from sparsesearch.export.loading import load

        return load(directory, torch.float32)
    model, info = getattr(transformers, auto_class).from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True, trust_remote_code=way == "trust_remote_code"
    )
    problems = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if problems:
        raise ValueError(f"loading reports keys {problems[:3]}")
    if way == "trust_remote_code" and not type(model).__module__.startswith("transformers_modules"):
        raise ValueError(f"the export's own code did not run, {type(model).__module__} did")
    return model.eval()


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits, or the last hidden states, or what a module of the user's own returns; float32."""
    with torch.no_grad():
        if not isinstance(model, transformers.PreTrainedModel):
            own: torch.Tensor = model(*(inputs[name] for name in sorted(inputs)))
            return own.float()
        found = model(**inputs)
    logits: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
    return logits.float()


def check(model: Any, inputs: dict[str, torch.Tensor], outputs: torch.Tensor, generates: bool) -> dict[str, Any]:
    """Largest output difference, counts, and whether cached generation agrees with plain forward passes."""
    difference = float((outputs_of(model, inputs) - outputs).abs().max())
    with torch.no_grad():
        agrees = not generates or _generates(model, inputs["input_ids"])
    return {
        "max_abs_logit_diff": difference,
        "params": sum(p.numel() for p in model.parameters()),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in model.parameters()),
        "generates": agrees,
    }


def _generates(model: Any, tokens: torch.Tensor) -> bool:
    prompt = tokens[:1, :8]
    # The mask is given: transformers would otherwise take a real token 0 for padding.
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
    greedy = prompt
    for _ in range(8):
        following = model(greedy, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)
        greedy = torch.cat([greedy, following], dim=1)
    return bool(torch.equal(generated, greedy))


def main(directory: str, reference: str, way: str) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with safe_open(reference, framework="pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    outputs = tensors.pop("outputs")
    model = load_by(way, Path(directory), told["auto_class"])
    json.dump(check(model, tensors, outputs, told["generates"] == "True"), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
