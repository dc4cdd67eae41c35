"""Proof that an export loads: run in a fresh process, `python -m sparsesearch.export.verify DIR REFERENCE`.

Loads the export every way its form promises, compares logits with what the search executed, counts parameters and
nonzeros, generates text, and prints one JSON document.
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

from sparsesearch.export.loading import load, manifest

# Largest logit difference in float32 that still counts as the same model; summation order accounts for 1e-4.
TOLERANCE = 1e-3


def loaders(directory: Path) -> dict[str, Any]:
    """Ways to load the export, by name."""

    def stock(**options: Any) -> Any:
        model, info = AutoModelForCausalLM.from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True, **options
        )
        problems = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]
        if problems:
            raise ValueError(f"loading reports keys {problems[:3]}")
        return model.eval()

    ways = {"sparsesearch.load": lambda: load(directory, torch.float32)}
    if manifest(directory)["form"] == "uneven":
        ways["trust_remote_code"] = lambda: stock(trust_remote_code=True)
    else:
        ways["transformers"] = stock
    return ways


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


def main(directory: str, reference: str) -> None:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    data = load_file(reference)
    report = {way: check(make(), data["tokens"], data["logits"]) for way, make in loaders(Path(directory)).items()}
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
