"""Proof that an export loads: a script of its own, `python verify.py DIR REFERENCE WAY`, run in a fresh process a way.

WAY is `sparsesearch.load`, `transformers`, `trust_remote_code`, `onnxruntime` or `torch.export.load`; only the first
imports sparsesearch, and the last two not even transformers, so the others show what users without it get. It compares
outputs with what the search executed, in float32 and in bfloat16, and the model with itself in the ways it is used
(padded, with a cache, in chunks, with beams), counts parameters and nonzeros, and prints one JSON document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

# Largest logit difference in float32 that still counts as the same model; summation order accounts for 1e-4.
TOLERANCE = 1e-3
# Files of the graphs, by the way that loads them.
GRAPH_FILES = {"onnxruntime": "model.onnx", "torch.export.load": "model.pt2"}
# New tokens that are generated to compare ways of generating.
GENERATED = 8
# Mean difference of bfloat16 logits, in standard deviations of the float32 ones, that still counts as rounding.
HALF_TOLERANCE = 0.25


def load_by(way: str, directory: Path, auto_class: str, dtype: torch.dtype = torch.float32) -> Any:
    """The export; raises ValueError if transformers reports weights that are missing, left over or of other shapes."""
    if way == "sparsesearch.load":
        from sparsesearch.export.loading import load

        return load(directory, dtype, trust_remote_code=True)  # written by this run
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, info = getattr(transformers, auto_class).from_pretrained(
        directory, dtype=dtype, output_loading_info=True, trust_remote_code=way == "trust_remote_code"
    )
    if problems := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
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
        rows = [model(**row) for row in _batches(model, inputs)]
    outputs = torch.cat([row.logits if "logits" in row else row.last_hidden_state for row in rows])
    return outputs.float()


def _batches(model: Any, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The samples at once, or one by one for a decoder that classifies and has no padding token."""
    if not type(model).__name__.endswith("ForSequenceClassification") or model.config.pad_token_id is not None:
        return [inputs]
    count = len(next(iter(inputs.values())))
    return [{name: tensor[i : i + 1] for name, tensor in inputs.items()} for i in range(count)]


def _in_order(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Inputs of a module of the user's own, whose names are their numbers."""
    return [inputs[name] for name in sorted(inputs, key=lambda name: (len(name), name))]


def check(model: Any, inputs: dict[str, torch.Tensor], outputs: torch.Tensor) -> dict[str, Any]:
    """Largest output difference, counts, and the ways of use that do not agree with plain forward passes."""
    difference = float((outputs_of(model, inputs) - outputs).abs().max())
    return {"max_abs_logit_diff": difference, "disagreeing": disagreeing(model, inputs)} | counts(model)


def disagreeing(model: Any, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Ways of use whose outputs are not those of plain forward passes of one sample: some ten passes of a sample.

    `padding`: a batch of samples of unequal length. Of what generates `cache`: greedy generation from a padded batch;
    `chunks`: a prompt of a decoder read in two parts; `beams`: two of them. Logits along the generated path are
    compared, not tokens, which ties decide.
    """
    from transformers import GenerationConfig, PreTrainedModel

    if not isinstance(model, PreTrainedModel) or "input_ids" not in inputs:
        return []
    checks = {"padding": _pads}
    if model.can_generate():
        # The checkpoint's own may change scores, as repetition_penalty and forced tokens do.
        model.generation_config = GenerationConfig()
        checks = {"cache": _generates, "chunks": _reads_chunks, "beams": _searches_beams}
    if "decoder_input_ids" in inputs:
        checks = {"cache": _answers, "beams": _answers_with_beams}
    with torch.no_grad():
        return [name for name, agrees in checks.items() if not _holds(agrees, model, inputs["input_ids"])]


def _holds(agrees: Callable[[Any, torch.Tensor], bool], model: Any, tokens: torch.Tensor) -> bool:
    """Whether a check agrees; a model that cannot be used so at all does not."""
    try:
        return agrees(model, tokens)
    except (RuntimeError, ValueError, IndexError):
        return False


def check_half(
    directory: Path, way: str, auto_class: str, inputs: dict[str, torch.Tensor], outputs: torch.Tensor
) -> bool:
    """Whether the export loads in bfloat16 and puts out what it did, but for rounding."""
    given = {name: t.bfloat16() if t.is_floating_point() else t for name, t in inputs.items()}
    half = outputs_of(load_by(way, directory, auto_class, torch.bfloat16), given)
    return bool(half.isfinite().all()) and float((half - outputs).abs().mean()) <= HALF_TOLERANCE * float(outputs.std())


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
    return {"max_abs_logit_diff": float((found.float() - outputs).abs().max()), "disagreeing": []}


def _close(found: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool(((found.float() - expected.float()).abs() <= TOLERANCE * expected.abs().max().clamp_min(1.0)).all())


def _padded(tokens: torch.Tensor, at_end: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Two prompts of 8 and 5 tokens as a batch padded on the left or at the end, and its mask."""
    batch = tokens[:2, :8].clone() if len(tokens) > 1 else tokens[:1, :8].repeat(2, 1)
    mask, empty = torch.ones_like(batch), slice(5, 8) if at_end else slice(0, 3)
    batch[-1, empty], mask[-1, empty] = 0, 0
    return batch, mask


def _generates(model: Any, tokens: torch.Tensor) -> bool:
    """Whether greedy generation with a cache from a padded batch follows plain forward passes of each row."""
    prompt, mask = _padded(tokens)
    done = model.generate(
        prompt,
        attention_mask=mask,
        max_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    steps = torch.stack(done.logits, dim=1)
    for row, sequence in enumerate(done.sequences):
        whole = sequence[int((mask[row] == 0).sum()) :][None]
        if not _close(steps[row], model(whole, use_cache=False).logits[0, -GENERATED - 1 : -1]):
            return False
    return True


def _reads_chunks(model: Any, tokens: torch.Tensor) -> bool:
    """Whether a prompt that is read in two parts gives the logits of one that is read whole."""
    prompt = tokens[:1, :8]
    first = model(prompt[:, :3], use_cache=True)
    name = "cache" if getattr(first, "cache", None) is not None else "past_key_values"  # as transformers names it
    second = model(prompt[:, 3:], use_cache=True, **{name: getattr(first, name)})
    return _close(second.logits, model(prompt, use_cache=False).logits[:, 3:])


def _searches_beams(model: Any, tokens: torch.Tensor) -> bool:
    """Whether two beams have the scores that plain forward passes give their tokens."""
    prompt = tokens[:1, :8]
    done = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=GENERATED,
        num_beams=2,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=1.0,
    )
    return _scored(done, model(done.sequences, use_cache=False).logits)


def _answers(model: Any, tokens: torch.Tensor) -> bool:
    """Whether greedy generation with a cache, from two sources of which one is padded, follows plain passes of each."""
    sources, mask = _padded(tokens, at_end=True)
    done = model.generate(
        sources,
        attention_mask=mask,
        decoder_start_token_id=0,
        max_new_tokens=GENERATED,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    steps = torch.stack(done.logits, dim=1)
    for row, sequence in enumerate(done.sequences):
        whole = model(sources[row : row + 1, : int(mask[row].sum())], decoder_input_ids=sequence[None], use_cache=False)
        if not _close(steps[row], whole.logits[0, -GENERATED - 1 : -1]):
            return False
    return True


def _answers_with_beams(model: Any, tokens: torch.Tensor) -> bool:
    """Whether two beams of an answer have the scores that plain forward passes give their tokens."""
    source = tokens[:1, :8]
    done = model.generate(
        source,
        attention_mask=torch.ones_like(source),
        decoder_start_token_id=0,
        max_new_tokens=GENERATED,
        num_beams=2,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=1.0,
    )
    return _scored(done, model(source, decoder_input_ids=done.sequences, use_cache=False).logits)


def _scored(done: Any, logits: torch.Tensor) -> bool:
    """Whether the scores of generated sequences are the mean log probabilities that logits give their new tokens."""
    chances = logits.float().log_softmax(dim=-1)[:, -GENERATED - 1 : -1]
    chosen = chances.gather(-1, done.sequences[:, -GENERATED:, None])
    return _close(done.sequences_scores, chosen.sum(dim=(1, 2)) / GENERATED)


def _pads(model: Any, tokens: torch.Tensor) -> bool:
    """Whether a sample with padding behind it gives what it gives alone."""
    short = tokens[:1, :8]
    batch = torch.cat([short, torch.zeros_like(short[:, :3])], dim=1)
    mask = torch.ones_like(batch)
    mask[:, 8:] = 0
    alone = outputs_of(model, {"input_ids": short, "attention_mask": torch.ones_like(short)})
    padded = outputs_of(model, {"input_ids": batch, "attention_mask": mask})
    return _close(padded[:, : alone.shape[1]] if padded.ndim > 2 else padded, alone)


def main(directory: str, reference: str, way: str) -> None:
    with safe_open(reference, framework="pt") as file:
        told = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    outputs = tensors.pop("outputs")
    if way in GRAPH_FILES:
        found = check_graph(way, Path(directory), tensors, outputs, told["auto_class"] == "")
    else:
        found = check(load_by(way, Path(directory), told["auto_class"]), tensors, outputs)
        if not check_half(Path(directory), way, told["auto_class"], tensors, outputs):
            found["disagreeing"].append("bfloat16")
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
