"""A ViT and a BERT with random weights, for measuring time: python networks.py DIR TOKENIZER"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import transformers


def main(directory: Path, tokenizer: str) -> None:
    torch.manual_seed(0)
    vit = transformers.ViTConfig(
        hidden_size=192,
        num_hidden_layers=6,
        num_attention_heads=6,
        intermediate_size=768,
        image_size=96,
        patch_size=8,
        num_labels=10,
    )
    transformers.ViTForImageClassification(vit).save_pretrained(directory / "vit-tiny")
    bert = transformers.BertConfig(
        vocab_size=4096, hidden_size=256, num_hidden_layers=6, num_attention_heads=8, intermediate_size=1024
    )
    transformers.BertForMaskedLM(bert).save_pretrained(directory / "bert-tiny")
    transformers.AutoTokenizer.from_pretrained(tokenizer).save_pretrained(directory / "bert-tiny")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
