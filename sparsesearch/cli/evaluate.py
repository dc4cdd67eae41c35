"""`sparsesearch evaluate`: perplexity of a model on a text file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json


def evaluate(
    target: Annotated[str, typer.Argument(metavar="DIR|HUB_ID|RUN/ID", help="A model, an export, or a candidate.")],
    text: Annotated[Path, typer.Option(help="UTF-8 text file.")],
    length: Annotated[int, typer.Option(min=2, help="Tokens of a window.")] = 256,
    windows: Annotated[int | None, typer.Option(min=1, help="First windows only; all by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows of a forward pass.")] = 8,
    json_: Json = False,
) -> None:
    """Perplexity in windows of equal length, no special tokens added, the first token of each window given."""
    from sparsesearch.export.measure import evaluate_text

    result = evaluate_text(target, text, length, windows, batch)
    if json_:
        print_json(result)
    else:
        print(
            f"perplexity {result['perplexity']:.4f} over {result['tokens']:,} tokens in windows of {length}; "
            f"{result['params']:,} params, {result['nonzeros']:,} nonzeros"
        )
