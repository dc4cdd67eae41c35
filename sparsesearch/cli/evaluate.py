"""`sparsesearch evaluate`: perplexity of a model on a text file, or accuracy on labelled images or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.cli.options import Json, print_json
from sparsesearch.errors import InputError


def evaluate(
    target: Annotated[str, typer.Argument(metavar="DIR|HUB_ID|RUN/ID", help="A model, an export, or a candidate.")],
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text, for perplexity; .parquet of documents, for accuracy.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder of classes, .parquet file or datasets:ID, for accuracy.")
    ] = None,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a window.")] = 256,
    first: Annotated[int | None, typer.Option(min=1, help="First windows or images only; all by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows or images of a forward pass.")] = 8,
    json_: Json = False,
) -> None:
    """Perplexity on --text, or accuracy on --images or on a table of texts with columns `text` and `label`.

    Perplexity is in windows of equal length, no special tokens added, the first token of each window given.
    """
    from sparsesearch.export.measure import evaluate_images, evaluate_text

    if images is None and text is not None:
        result = evaluate_text(target, text, length, first, batch)
        if "accuracy" in result:
            found = f"accuracy {result['accuracy']:.2%} over {result['documents']:,} documents of {length} tokens"
        else:
            found = f"perplexity {result['perplexity']:.4f} over {result['tokens']:,} tokens in windows of {length}"
    elif images is not None and text is None:
        result = evaluate_images(target, images, first, batch)
        found = f"accuracy {result['accuracy']:.2%} over {result['images']:,} images"
    else:
        raise InputError("SS101", "evaluate needs either --text or --images.")
    if json_:
        print_json(result)
    else:
        print(f"{found}; {result['params']:,} params, {result['nonzeros']:,} nonzeros")
