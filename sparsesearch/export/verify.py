"""Proof that an export loads: a script of its own, `python verify.py DIR REFERENCE WAY`, run in a fresh process a way.

WAY is `sparsesearch.load`, `transformers` or `trust_remote_code`; only the first imports sparsesearch, so the others
show what users without it get. Compares logits with what the search executed, counts parameters and nonzeros,
generates with a cache, and prints one JSON document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging

# Largest logit difference in float32 that still counts as the same model; summation order accounts for 1e-4.
TOLERANCE = 1e-3
WAYS = {
    "zeros": ("sparsesearch.load", "transformers"),
    "uniform": ("sparsesearch.load", "transformers"),
    "uneven": ("sparsesearch.load", "trust_remote_code"),
}


def load_by(way: str, directory: Path) -> Any:
    """The export in float32; raises ValueError where transformers reports missing or unexpected weights."""
    if way == "sparsesearch.load":
        from sparsesearch.export.loading import load

        return load(directory, torch.float32)
    model, info = AutoModelForCausalLM.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True, trust_remote_code=way == "trust_remote_code"
    )
    problems = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
    if problems:
        raise ValueError(f"loading reports keys {problems[:3]}")
    if way == "trust_remote_code" and not type(model).__module__.startswith("transformers_modules"):
        raise ValueError(f"the export's own code did not run, {type(model).__module__} did")
    return model.eval()


def check(model: Any, tokens: torch.Tensor, logits: torch.Tensor) -> dict[str, Any]:
    """Largest logit difference, counts, and whether cached generation agrees with plain forward passes."""
    with torch.no_grad():
        difference = float((model(tokens, use_cache=False).logits.float() - logits).abs().max())
        prompt = tokens[:1, :8]
        # The mask is given: transformers would otherwise take a real token 0 for padding.
        options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
        generated = model.generate(prompt, attention_mask=torch.ones_like(prompt), **options)
        greedy = prompt
        for _ in range(8):
            following = model(greedy, use_cache=False).logits[:, -1].argmax(dim=-1, keepdim=True)
            greedy = torch.cat([greedy, following], dim=1)
    return {
        "max_abs_logit_diff": difference,
        "params": sum(p.numel() for p in model.parameters()),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in model.parameters()),
        "generates": bool(torch.equal(generated, greedy)),
    }


def main(directory: str, reference: str, way: str) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data = load_file(reference)
    json.dump(check(load_by(way, Path(directory)), data["tokens"], data["logits"]), sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
