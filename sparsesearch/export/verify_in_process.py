"""Verifies that an export loads: `python verify_in_process.py DIR REFERENCE WAY`, run in a fresh process for each way.

WAY is `sparsesearch.load`, `transformers`, `trust_remote_code`, `onnxruntime` or `torch.export.load`; only the first
imports sparsesearch, and the last two do not import transformers, so the others verify the export for users without
these packages. It compares outputs with those of the searched network, in float32 and in bfloat16, and the model with
itself in several uses (padded, with a cache, in chunks, with beams), counts parameters and nonzeros, and prints one
JSON document.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

# Largest logit difference in float32 of equal models; summation order alone causes 1e-4.
TOLERANCE = 1e-3
# Files of the graphs, by the way of loading.
GRAPH_FILES = {"onnxruntime": "model.onnx", "torch.export.load": "model.pt2"}
# Number of tokens that are generated in checks of generation.
NEW_TOKENS = 8
# Largest mean difference of bfloat16 logits, in standard deviations of the float32 ones, that rounding explains.
HALF_TOLERANCE = 0.25


def load_by(way: str, directory: Path, auto_class: str, dtype: torch.dtype = torch.float32) -> Any:
    """Load an export; raises ValueError if transformers reports missing, unexpected or mismatched weights."""
    if way == "sparsesearch.load":
        from sparsesearch.export.loading import load

        return load(directory, dtype, trust_remote_code=True)  # trusted, since this run wrote it
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, info = getattr(transformers, auto_class).from_pretrained(
        directory, dtype=dtype, output_loading_info=True, trust_remote_code=way == "trust_remote_code"
    )
    if problems := [*info["missing_keys"], *info["unexpected_keys"], *info["mismatched_keys"]]:
        raise ValueError(f"loading reports keys {problems[:3]}")
    if way == "trust_remote_code" and not type(model).__module__.startswith("transformers_modules"):
        raise ValueError(f"the model's code is {type(model).__module__}, not that of the export")
    return model.eval()


def outputs_of(model: Any, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Return logits, the last hidden states, or the outputs of a user's module, (samples, ...) float32.

    Args:
        inputs: arguments of the model by name, (samples, ...) each.
    """
    from transformers import PreTrainedModel

    with torch.no_grad():
        if not isinstance(model, PreTrainedModel):
            tensor: torch.Tensor = model(*_ordered_inputs(inputs))
            return tensor.float()
        rows = [model(**row) for row in _batches(model, inputs)]
    outputs = torch.cat([row.logits if "logits" in row else row.last_hidden_state for row in rows])
    return outputs.float()


def _batches(model: Any, inputs: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """Return all samples as one batch, or one by one for a classifying decoder without a padding token."""
    if not type(model).__name__.endswith("ForSequenceClassification") or model.config.pad_token_id is not None:
        return [inputs]
    count = len(next(iter(inputs.values())))
    return [{name: tensor[i : i + 1] for name, tensor in inputs.items()} for i in range(count)]


def _ordered_inputs(inputs: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    """Return the inputs of a user's module, whose names are numbers, in order."""
    return [inputs[name] for name in sorted(inputs, key=lambda name: (len(name), name))]


def check(model: Any, inputs: dict[str, torch.Tensor], outputs: torch.Tensor) -> dict[str, Any]:
    """Return the largest output difference, counts, and the uses that disagree with plain forward passes.

    Args:
        inputs: arguments of the model by name, (samples, ...) each.
        outputs: expected outputs, (samples, ...).
    """
    difference = float((outputs_of(model, inputs) - outputs).abs().max())
    return {"max_abs_logit_diff": difference, "disagreeing": find_disagreements(model, inputs)} | counts(model)


def find_disagreements(model: Any, inputs: dict[str, torch.Tensor]) -> list[str]:
    """Return the uses of a model whose outputs differ from plain forward passes of single samples.

    `padding`: a batch with padding. For models that generate, `cache`: greedy generation from a padded batch; `chunks`:
    a decoder's prompt in two parts; `beams`: generation with two beams. Logits along the generated path are compared,
    not tokens, since ties between tokens can be broken either way.

    Args:
        inputs: arguments of the model by name, (samples, ...) each.
    """
    from transformers import GenerationConfig, PreTrainedModel

    if not isinstance(model, PreTrainedModel) or "input_ids" not in inputs:
        return []
    checks = {"padding": _padding_agrees}
    if model.can_generate():
        # The checkpoint's own options, such as repetition_penalty and forced tokens, may change scores.
        model.generation_config = GenerationConfig()
        checks = {"cache": _cache_agrees, "chunks": _chunks_agree, "beams": _beams_agree}
    if "decoder_input_ids" in inputs:
        checks = {"cache": _encoder_cache_agrees, "beams": _encoder_beams_agree}
    with torch.no_grad():
        return [name for name, agrees in checks.items() if not _passes(agrees, model, inputs["input_ids"])]


def _passes(agrees: Callable[[Any, torch.Tensor], bool], model: Any, tokens: torch.Tensor) -> bool:
    """Return whether a check passes; it fails if the model cannot be used in this way at all."""
    try:
        return agrees(model, tokens)
    except (RuntimeError, ValueError, IndexError):
        return False


def check_half(
    directory: Path, way: str, auto_class: str, inputs: dict[str, torch.Tensor], outputs: torch.Tensor
) -> bool:
    """Return whether the export loads in bfloat16 and its outputs equal the expected ones up to rounding.

    Args:
        inputs: arguments of the model by name, (samples, ...) each.
        outputs: expected outputs, (samples, ...) float32.
    """
    rounded = {name: t.bfloat16() if t.is_floating_point() else t for name, t in inputs.items()}
    half = outputs_of(load_by(way, directory, auto_class, torch.bfloat16), rounded)
    return bool(half.isfinite().all()) and float((half - outputs).abs().mean()) <= HALF_TOLERANCE * float(outputs.std())


def counts(model: Any) -> dict[str, int]:
    """Return `{params, nonzeros}` of a model."""
    parameters = list(model.parameters())
    return {
        "params": sum(p.numel() for p in parameters),
        "nonzeros": sum(int(torch.count_nonzero(p)) for p in parameters),
    }


def check_graph(
    way: str, directory: Path, inputs: dict[str, torch.Tensor], outputs: torch.Tensor, is_module: bool
) -> dict[str, Any]:
    """Return the largest output difference of a graph, run on another number of samples than it was traced with.

    Args:
        inputs: inputs of the graph by name, (samples, ...) each.
        outputs: expected outputs, (samples, ...).
        is_module: whether the graph is of a user's module, whose inputs have an order and no names.
    """
    path = directory / GRAPH_FILES[way]
    if way == "onnxruntime":
        import onnxruntime

        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [i.name for i in session.get_inputs()]
        result = torch.from_numpy(session.run(None, {name: inputs[name].numpy() for name in names})[0])
    else:
        program = torch.export.load(path).module()
        with torch.no_grad():
            result = program(*_ordered_inputs(inputs)) if is_module else program(**inputs)
    if "transformers" in sys.modules or "sparsesearch" in sys.modules:
        raise ValueError("loading the graph imported transformers or sparsesearch")
    return {"max_abs_logit_diff": float((result.float() - outputs).abs().max()), "disagreeing": []}


def _close(actual: torch.Tensor, expected: torch.Tensor) -> bool:
    return bool(((actual.float() - expected.float()).abs() <= TOLERANCE * expected.abs().max().clamp_min(1.0)).all())


def _pad_prompts(tokens: torch.Tensor, at_end: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Return two prompts of 8 and 5 tokens as a batch (2, 8), padded on the left or at the end, and its mask."""
    batch = tokens[:2, :8].clone() if len(tokens) > 1 else tokens[:1, :8].repeat(2, 1)
    mask, padding = torch.ones_like(batch), slice(5, 8) if at_end else slice(0, 3)
    batch[-1, padding], mask[-1, padding] = 0, 0
    return batch, mask


def _cache_agrees(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether greedy generation with a cache from a padded batch equals plain forward passes of each row."""
    prompt, mask = _pad_prompts(tokens)
    generated = model.generate(
        prompt,
        attention_mask=mask,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    steps = torch.stack(generated.logits, dim=1)
    for row, sequence in enumerate(generated.sequences):
        unpadded = sequence[int((mask[row] == 0).sum()) :][None]
        if not _close(steps[row], model(unpadded, use_cache=False).logits[0, -NEW_TOKENS - 1 : -1]):
            return False
    return True


def _chunks_agree(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether a prompt in two parts gives the same logits as in one."""
    prompt = tokens[:1, :8]
    first = model(prompt[:, :3], use_cache=True)
    name = "cache" if getattr(first, "cache", None) is not None else "past_key_values"  # by version of transformers
    second = model(prompt[:, 3:], use_cache=True, **{name: getattr(first, name)})
    return _close(second.logits, model(prompt, use_cache=False).logits[:, 3:])


def _beams_agree(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether two beams have the scores that plain forward passes give their tokens."""
    prompt = tokens[:1, :8]
    generated = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        num_beams=2,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=1.0,
    )
    return _scores_agree(generated, model(generated.sequences, use_cache=False).logits)


def _encoder_cache_agrees(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether an encoder-decoder's greedy generation from a padded batch equals plain passes of each row."""
    sources, mask = _pad_prompts(tokens, at_end=True)
    generated = model.generate(
        sources,
        attention_mask=mask,
        decoder_start_token_id=0,
        max_new_tokens=NEW_TOKENS,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_logits=True,
    )
    steps = torch.stack(generated.logits, dim=1)
    for row, sequence in enumerate(generated.sequences):
        source = sources[row : row + 1, : int(mask[row].sum())]
        plain = model(source, decoder_input_ids=sequence[None], use_cache=False)
        if not _close(steps[row], plain.logits[0, -NEW_TOKENS - 1 : -1]):
            return False
    return True


def _encoder_beams_agree(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether an encoder-decoder's two beams have the scores that plain forward passes give their tokens."""
    source = tokens[:1, :8]
    generated = model.generate(
        source,
        attention_mask=torch.ones_like(source),
        decoder_start_token_id=0,
        max_new_tokens=NEW_TOKENS,
        num_beams=2,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
        return_dict_in_generate=True,
        output_scores=True,
        length_penalty=1.0,
    )
    return _scores_agree(generated, model(source, decoder_input_ids=generated.sequences, use_cache=False).logits)


def _scores_agree(generated: Any, logits: torch.Tensor) -> bool:
    """Return whether scores of generated sequences are the mean log-probabilities of their new tokens.

    Args:
        logits: (sequences, tokens, vocabulary).
    """
    log_probs = logits.float().log_softmax(dim=-1)[:, -NEW_TOKENS - 1 : -1]
    of_tokens = log_probs.gather(-1, generated.sequences[:, -NEW_TOKENS:, None])
    return _close(generated.sequences_scores, of_tokens.sum(dim=(1, 2)) / NEW_TOKENS)


def _padding_agrees(model: Any, tokens: torch.Tensor) -> bool:
    """Return whether a sample gives the same outputs with padding at its end as without."""
    short = tokens[:1, :8]
    batch = torch.cat([short, torch.zeros_like(short[:, :3])], dim=1)
    mask = torch.ones_like(batch)
    mask[:, 8:] = 0
    alone = outputs_of(model, {"input_ids": short, "attention_mask": torch.ones_like(short)})
    padded = outputs_of(model, {"input_ids": batch, "attention_mask": mask})
    return _close(padded[:, : alone.shape[1]] if padded.ndim > 2 else padded, alone)


def main(directory: str, reference: str, way: str) -> None:
    """Check an export against a reference file of inputs, `outputs` and metadata, and print the result as JSON."""
    with safe_open(reference, framework="pt") as file:
        auto_class = file.metadata()["auto_class"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    outputs = tensors.pop("outputs")
    if way in GRAPH_FILES:
        result = check_graph(way, Path(directory), tensors, outputs, auto_class == "")
    else:
        result = check(load_by(way, Path(directory), auto_class), tensors, outputs)
        if not check_half(Path(directory), way, auto_class, tensors, outputs):
            result["disagreeing"].append("bfloat16")
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
