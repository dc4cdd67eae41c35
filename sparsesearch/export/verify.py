"""Proof that an export loads: a script of its own, `python verify.py DIR REFERENCE WAY`, run in a fresh process a way.

WAY is `sparsesearch.load`, `transformers`, `trust_remote_code`, `onnxruntime` or `torch.export.load`; only the first
imports sparsesearch, and the last two not even transformers, so the others show what users without it get. Compares
outputs with what the search executed, counts parameters and nonzeros, generates with a cache where the model does that,
and prints one JSON document.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

# Largest logit difference in float32 that still counts as the same model; summation order accounts for 1e-4.
TOLERANCE = 1e-3
# Files of the graphs, by the way that loads them.
GRAPH_FILES = {"onnxruntime": "model.onnx", "torch.export.load": "model.pt2"}
_SUSPICIOUS = re.compile(r"missing|unexpected|mismatch|newly initialized|not initialized|not used", re.IGNORECASE)


class _Listener(logging.Handler):
    """Keeps what transformers says about weights that did not find their place."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if _SUSPICIOUS.search(text):
            self.lines.append(" ".join(text.split())[:200])


def load_by(way: str, directory: Path, auto_class: str) -> Any:
    """The export in float32; raises ValueError where transformers reports missing or unexpected weights."""
    import transformers
    from transformers.utils import logging as reports

    listener, logger = _Listener(), reports.get_logger("transformers")
    logger.addHandler(listener)
    reports.set_verbosity_warning()
    reports.disable_progress_bar()
    try:
        if way == "sparsesearch.load":
            from sparsesearch.export.loading import load

            return load(directory, torch.float32)
        model, info = getattr(transformers, auto_class).from_pretrained(
            directory, dtype=torch.float32, output_loading_info=True, trust_remote_code=way == "trust_remote_code"
        )
    finally:
        logger.removeHandler(listener)
        reports.set_verbosity_error()
    problems = [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"], *listener.lines]
    if problems:
        raise ValueError(f"loading reports keys {problems[:3]}")
    if way == "trust_remote_code" and not type(model).__module__.startswith("transformers_modules"):
        raise ValueError(f"the export's own code did not run, {type(model).__module__} did")
    return model.eval()


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Logits, or the last hidden states, or what a module of the user's own returns; float32."""
    from transformers import PreTrainedModel

    with torch.no_grad():
        if not isinstance(model, PreTrainedModel):
            own: torch.Tensor = model(*_in_order(inputs))
            return own.float()
        found = model(**inputs)
    logits: torch.Tensor = found.logits if "logits" in found else found.last_hidden_state
    return logits.float()


def _in_order(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Inputs of a module of the user's own, whose names are their numbers."""
    return [inputs[name] for name in sorted(inputs, key=lambda name: (len(name), name))]


def check(model: Any, inputs: dict[str, torch.Tensor], outputs: torch.Tensor, generates: bool) -> dict[str, Any]:
    """Largest output difference, counts, and whether cached generation agrees with plain forward passes."""
    difference = float((outputs_of(model, inputs) - outputs).abs().max())
    with torch.no_grad():
        agrees = not generates or _generates(model, inputs["input_ids"])
    return {"max_abs_logit_diff": difference, "generates": agrees} | counts(model)


def counts(model: Any) -> dict[str, int]:
    """`{params, nonzeros}` of a model."""
    parameters = list(model.parameters())
    return {
        "params": sum(p.numel() for p in parameters),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in parameters),
    }


def check_graph(
    way: str, directory: Path, inputs: dict[str, torch.Tensor], outputs: torch.Tensor, own: bool
) -> dict[str, Any]:
    """Largest output difference of a graph, run on another number of samples than it was traced with.

    Args:
        own: whether it is of a module of the user's own, whose inputs have an order and no names.
    """
    path = directory / GRAPH_FILES[way]
    if way == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        found = torch.from_numpy(session.run(None, {name: inputs[name].numpy() for name in names})[0])
    else:
        program = torch.export.load(path).module()
        with torch.no_grad():
            found = program(*_in_order(inputs)) if own else program(**inputs)
    if "transformers" in sys.modules or "sparsesearch" in sys.modules:
        raise ValueError("loading the graph imported more than its runtime")
    return {"max_abs_logit_diff": float((found.float() - outputs).abs().max()), "generates": True}


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
    with safe_open(reference, framework="pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    outputs = tensors.pop("outputs")
    if way in GRAPH_FILES:
        found = check_graph(way, Path(directory), tensors, outputs, told["auto_class"] == "")
    else:
        found = check(load_by(way, Path(directory), told["auto_class"]), tensors, outputs, told["generates"] == "True")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
