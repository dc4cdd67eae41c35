"""whittle's searches for sub-networks of the language model, as it is and with neurons sorted by its importance.

python whittle_search.py --model llama-7m --text DIR --work DIR --out measured/whittle.json

DIR of the texts holds calib.txt (importance), train.txt (validation loss of candidates) and valid.txt (measures).
Spaces: `cli` is that of `whittle search` (embedding, MLP ratio, heads, depth, one value for all layers), with the
numbers of heads that grouped queries allow; `layers` has an FFN width of each layer, the hidden size whole.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import numpy as np
import torch
from litgpt.config import Config
from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama
from measures import WINDOW, Text, write
from syne_tune.config_space import choice, lograndint, randint
from transformers import AutoModelForCausalLM
from whittle.importance.intermediate_size import compute_importance_intermediate_size
from whittle.importance.utils import permute_mlp, sort_keys_by_score
from whittle.metrics import compute_parameters
from whittle.models.gpt import GPT
from whittle.search import multi_objective_search

from sparsesearch.export.measuring.quality import text_windows
from sparsesearch.models import load_tokenizer


class Model:
    """A whittle model that the measures can call."""

    def __init__(self, gpt: GPT) -> None:
        self.gpt, self.config, self.device = gpt, SimpleNamespace(vocab_size=gpt.config.vocab_size), torch.device("cpu")

    def __call__(self, input_ids: torch.Tensor, **_: Any) -> Any:
        return SimpleNamespace(logits=self.gpt(input_ids.long()))

    def parameters(self) -> Any:
        return self.gpt.parameters()


def converted(path: Path) -> GPT:
    hf = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    c, state = hf.config, {}
    config = Config(
        name="llama",
        block_size=WINDOW,
        n_layer=c.num_hidden_layers,
        n_embd=c.hidden_size,
        vocab_size=c.vocab_size,
        padded_vocab_size=c.vocab_size,
        n_head=c.num_attention_heads,
        n_query_groups=c.num_key_value_heads,
        head_size=c.head_dim,
        rotary_percentage=1.0,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        norm_eps=c.rms_norm_eps,
        mlp_class_name="LLaMAMLP",
        intermediate_size=c.intermediate_size,
        rope_base=int(c.rope_parameters["rope_theta"]),
    )
    config.tie_embeddings = True
    copy_weights_hf_llama(config, {}, state, dict(hf.state_dict()))
    gpt = GPT(config)
    gpt.load_state_dict(state)
    return gpt.eval()


def sort_neurons(gpt: GPT, path: Path, text: Path, work: Path) -> None:
    """whittle's order of FFN neurons, one for all layers, by the norm of what they put out."""
    dataset = datasets.Dataset.from_dict({"text": [(text / "calib.txt").read_text()]})
    dataset.save_to_disk(str(work / "calib"))
    observed = GPT(gpt.config, compute_importance=True)
    observed.load_state_dict(gpt.state_dict())
    scores = compute_importance_intermediate_size(
        WINDOW, "norm", observed, load_tokenizer(path), str(work / "calib"), batch_size=32, num_batches=8
    )
    whole, order = list(range(gpt.config.n_embd)), sort_keys_by_score(scores)
    for block in gpt.transformer.h:
        permute_mlp(whole, order, block.mlp)


def space(name: str, config: Config) -> dict[str, Any]:
    if name == "cli":
        heads = [h for h in range(1, config.n_head + 1) if h % config.n_query_groups == 0]
        return {
            "embed_dim": lograndint(1, config.n_embd),
            "num_heads": choice(heads),
            "mlp_ratio": randint(1, 3),
            "depth": randint(1, config.n_layer),
        }
    return {f"width_{i}": randint(1, config.intermediate_size) for i in range(config.n_layer)}


def select(gpt: GPT, config: dict[str, Any]) -> None:
    if "depth" in config:
        gpt.select_sub_network(config)
    else:
        gpt.set_sub_network(sub_network_intermediate_size=[config[f"width_{i}"] for i in range(gpt.config.n_layer)])


def params(gpt: GPT) -> int:
    """Of the selected sub-network, with the tied matrix once."""
    return int(compute_parameters(gpt)) - gpt.sub_network_n_embd * gpt.config.padded_vocab_size


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("model", "text", "work", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--evals", type=int, default=100)
    parser.add_argument("--windows", type=int, default=2, help="of 256 tokens a candidate")
    parser.add_argument("--neurons", nargs="+", default=["as trained", "sorted"])
    parser.add_argument("--spaces", nargs="+", default=["cli", "layers"])
    parser.add_argument("--searches", nargs="+", default=["random_search", "nsga2"])
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    gpt, rows = converted(args.model), []
    measured = Text(args.model, args.text / "valid.txt", args.work / "teacher", Model(gpt))
    whole = params(gpt)
    more = {"dense": {"params": whole} | measured(Model(gpt))}
    prunable = whole - gpt.config.n_embd * (gpt.config.vocab_size + 2 * gpt.config.n_layer + 1)
    all_windows = text_windows(load_tokenizer(args.model), args.text / "train.txt", WINDOW)
    selection = torch.from_numpy(all_windows[np.linspace(0, len(all_windows) - 1, args.windows).astype(int)]).long()

    @torch.no_grad()
    def objective(config: dict[str, Any]) -> tuple[float, float]:
        select(gpt, config)
        logits = gpt(selection)[:, :-1]
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), selection[:, 1:].flatten())
        return float(loss), float(params(gpt))

    sorts = False
    for order, name, strategy in itertools.product(args.neurons, args.spaces, args.searches):
        if order == "sorted" and not sorts:
            sorts = True
            whole_widths = {f"width_{i}": gpt.config.intermediate_size for i in range(gpt.config.n_layer)}
            before = objective(whole_widths)[0]
            gpt.reset_super_network()
            sort_neurons(gpt, args.model, args.text, args.work)
            assert abs(objective(whole_widths)[0] - before) < 1e-4, "the same function after sorting"
            gpt.reset_super_network()
        done = multi_objective_search(
            objective, space(name, gpt.config), strategy, args.evals, seed=args.seed, verbose=False
        )
        for percent in (75, 50):
            limit = whole - prunable + prunable * percent // 100
            row: dict[str, Any] = {"prunable<=": percent, "neurons": order, "space": name, "search": strategy}
            within = [i for i, cost in enumerate(done["costs"]) if cost[1] <= limit]
            if within:
                config = done["configs"][min(within, key=lambda i: done["costs"][i][0])]
                select(gpt, config)
                row |= {"params": params(gpt), "config": config} | measured(Model(gpt))
            rows.append(row)
            print(row, flush=True)
        gpt.reset_super_network()
    more |= {"evaluations": args.evals, "tokens read": args.evals * args.windows * WINDOW, "seed": args.seed}
    write(args.out, rows, ["whittle", "litgpt", "syne-tune", "transformers"], **more)


if __name__ == "__main__":
    main()
