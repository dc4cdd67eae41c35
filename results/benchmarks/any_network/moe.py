"""Which experts to remove from a mixture of experts: a search against the same number out of every layer.

    python results/benchmarks/any_network/moe.py --text TEXT_DIR --runs RUNS_DIR --steps 1000 --seeds 0 1 2

Trains a small Mixtral-shaped model (6 blocks of 8 experts, 2 a token) on train.txt, then searches how many experts
each layer keeps. KL to dense on the first 16,384 tokens of valid.txt and perplexity on the first 128 windows of
wikitext2-test.txt go to RUNS_DIR/moe.jsonl, for the search and for uniform removal at the same number of parameters.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from common import TextMeasure, commit
from tokenizers import ByteLevelBPETokenizer
from transformers import MixtralConfig, MixtralForCausalLM, PreTrainedTokenizerFast

import sparsesearch as ss
from sparsesearch.space import Limit
from sparsesearch.space.sampling import uniform_at_limits

LENGTH, PEAK_LR = 128, 3e-3
EXPERTS = 8
KEPT = (7, 6, 5, 4, 3)


def train(args: argparse.Namespace, directory: Path) -> None:
    """A tokenizer of 4,096 entries and the model, both from train.txt."""
    text = (args.text / "train.txt").read_text()
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(text[:4_000_000].split("\n"), 4096, special_tokens=["<|end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, eos_token="<|end|>", bos_token="<|end|>")
    tokens = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=4096,
        hidden_size=128,
        intermediate_size=192,
        num_hidden_layers=6,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=EXPERTS,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        router_aux_loss_coef=0.01,
        output_router_logits=True,
        bos_token_id=0,
        eos_token_id=0,
    )
    model = MixtralForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK_LR, betas=(0.9, 0.95), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, PEAK_LR, total_steps=args.steps, pct_start=0.05)
    generator = torch.Generator().manual_seed(0)
    for step in range(args.steps):
        starts = torch.randint(len(tokens) - LENGTH, (args.batch,), generator=generator)
        batch = torch.stack([tokens[s : s + LENGTH] for s in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"step {step}: loss {loss.item():.3f}", flush=True)
    model.config.output_router_logits = False
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)


def recipe(args: argparse.Namespace, model: Path, seed: int) -> dict[str, Any]:
    calibration = {"source": str(args.text / "calib.txt"), "sequences": args.sequences, "length": LENGTH}
    selection = {"source": str(args.text / "train.txt"), "sequences": args.sequences, "length": LENGTH}
    return {
        "model": {"id": str(model)},
        "units": [{"kind": "experts", "min_kept": "25%", "levels": 8}],
        "pruners": {"experts": args.pruner},
        "objectives": ["kl", "params"],
        "data": {"calibration": calibration, "selection": selection},
        "search": {
            "searcher": "nsga2",
            "seed": seed,
            "evals": args.evals,
            "options": {"tokens": 4096, "population": 48},
        },
        "executor": {"kind": args.executor, "workers": 2},
    }


def rows(args: argparse.Namespace, model: Path, seed: int) -> Any:
    name = f"moe-{args.pruner}-s{seed}"
    if (args.runs / name / "front.json").exists():
        results = ss.Run.open(args.runs / name).results
    else:
        results = ss.search(recipe(args, model, seed), name=name, results=args.runs, quiet=True).results
    space, measure = results.space, TextMeasure(results, args.text, args.runs, args.windows, LENGTH, 16)
    yield {"run": name, "kept": EXPERTS, "uniform": measure(space.dense)}
    kinds = {u.kind for u in space.units}
    expert = (space.dense_costs["params"] - space.costs.named(space.smallest.levels)["params"]) // (EXPERTS - 2)
    for kept in args.kept:
        limit = Limit.parse(f"params<={space.dense_costs['params'] - (EXPERTS - kept) * expert}")
        inside = [e for e in results.front if space.with_limits([limit]).feasible(e.genome)]
        uniform = uniform_at_limits(space.with_limits([limit]), kinds)
        row = {"run": name, "kept": kept, "tokens": results.tokens, "limit": limit.text}
        if inside and uniform is not None:
            best = min(inside, key=lambda e: e.quality)
            yield row | {
                "search": measure(best.genome),
                "uniform": measure(uniform),
                "experts": space.describe(best.genome),
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=32, help="windows of a training step")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--kept", type=int, nargs="+", default=list(KEPT), help="experts a layer, at most")
    parser.add_argument("--pruner", default="reap")
    parser.add_argument("--evals", type=int, default=600)
    parser.add_argument("--sequences", type=int, default=256, help="of 128 tokens, for calibration and for selection")
    parser.add_argument("--windows", type=int, default=128, help="of valid.txt, 128 tokens each")
    parser.add_argument("--executor", choices=["ray", "local"], default="ray")
    args = parser.parse_args()
    args.runs = args.runs.resolve()
    args.runs.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(2)
    model = args.runs / "model"
    if not (model / "config.json").exists():
        train(args, model)
    with (args.runs / "moe.jsonl").open("a") as out:
        for seed in args.seeds:
            for row in rows(args, model, seed):
                line = row | {"seed": seed, "commit": commit(), "steps": args.steps, "evals": args.evals}
                out.write(json.dumps(line) + "\n")
                out.flush()
                print(line, flush=True)


if __name__ == "__main__":
    main()
