"""Train the embedded demo model from random weights: `python -m sparsesearch.demo.train OUT [--steps N]`.

A Llama-shaped decoder with grouped-query attention and its own byte-level BPE tokenizer, trained on the `train` split
of the standard library (`corpus.py`). It takes about half an hour on two CPU cores and is deterministic for one
combination of Python, torch and thread count.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path

import torch
from tokenizers import ByteLevelBPETokenizer
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sparsesearch.demo import corpus

VOCABULARY = 2048
TOKENS_PER_WINDOW = 256
WINDOWS_PER_STEP = 32
PEAK_LEARNING_RATE = 4e-3


def train_tokenizer() -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer of 2,048 entries on the `train` split."""
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(corpus.documents("train"), VOCABULARY, min_frequency=2, special_tokens=["<|end|>"])
    return PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|end|>", bos_token="<|end|>")


def encode(tokenizer: PreTrainedTokenizerFast, split: corpus.Split) -> torch.Tensor:
    """Return all tokens of a split, files separated by the end token; shape (tokens,)."""
    ids: list[int] = []
    for document in corpus.documents(split):
        ids += [*tokenizer(document)["input_ids"], tokenizer.eos_token_id]
    return torch.tensor(ids)


def config() -> LlamaConfig:
    """Return the configuration: 2.8 M parameters in 6 blocks of width 192, 4 KV heads for 8 query heads, FFN 512."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=8,
        num_key_value_heads=4,
        head_dim=24,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=0,
    )


def learning_rate(step: int, steps: int) -> float:
    """Return the learning rate of a step: linear warm-up over 5 % of the steps, then cosine to 5 % of the peak."""
    warmup = max(1, steps // 20)
    if step < warmup:
        return PEAK_LEARNING_RATE * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return PEAK_LEARNING_RATE * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def train(tokens: torch.Tensor, steps: int) -> LlamaForCausalLM:
    """Train a model with AdamW on random windows of 256 tokens, 32 a step.

    Args:
        tokens: the training text, (tokens,).
    """
    torch.manual_seed(0)
    model = LlamaForCausalLM(config())
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], betas=(0.9, 0.95)
    )
    generator = torch.Generator().manual_seed(0)
    started = time.monotonic()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        starts = torch.randint(len(tokens) - TOKENS_PER_WINDOW, (WINDOWS_PER_STEP,), generator=generator)
        batch = torch.stack([tokens[s : s + TOKENS_PER_WINDOW] for s in starts])
        loss = model(batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}/{steps} loss {loss.item():.3f} {time.monotonic() - started:.0f} s", flush=True)
    return model


def main() -> None:
    """Train and write the demo model and its tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="directory to write the model and tokenizer to")
    parser.add_argument("--steps", type=int, default=1500)
    args = parser.parse_args()
    tokenizer = train_tokenizer()
    tokens = encode(tokenizer, "train")
    print(f"{len(tokens):,} training tokens", flush=True)
    model = train(tokens, args.steps)
    model.to(torch.bfloat16).save_pretrained(args.out)
    tokenizer.save_pretrained(args.out)


if __name__ == "__main__":
    main()
