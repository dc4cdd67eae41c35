"""`sparsesearch evaluate`: tasks of lm-eval, perplexity on a text file, or accuracy on labelled images or texts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.cli.options import Json, MovedModel, Trust, print_json, say, split
from sparsesearch.errors import problem


def evaluate(
    targets: Annotated[
        list[str], typer.Argument(metavar="DIR|HUB_ID|RUN/ID...", help="Models, exports, or candidates.")
    ],
    text: Annotated[
        Path | None, typer.Option(help="UTF-8 text, for perplexity; .parquet of documents, for accuracy.")
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Folder of classes, .parquet file or datasets:ID, for accuracy.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks of lm-eval, as 'arc_easy,hellaswag' (needs the extra `eval`).")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --tasks: documents of each; all by default.")] = None,
    include_path: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="With --tasks: a directory of your own task files."),
    ] = None,
    length: Annotated[int, typer.Option(min=2, help="Tokens of a window.")] = 256,
    first: Annotated[int | None, typer.Option(min=1, help="First windows or images only; all by default.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows, images or requests of a forward pass.")] = 8,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Perplexity on --text, accuracy on --images or on a table of texts with columns `text` and `label`, or --tasks.

    Perplexity is in windows of equal length, no special tokens added, the first token of each window given. On tasks,
    the dense models that candidates and exports came from stand beside them, with what each lost against its own.
    """
    if sum(option is not None for option in (text, images, tasks)) != 1:
        raise problem("SS101", "evaluate needs one of --text, --images and --tasks.")
    from sparsesearch import api
    from sparsesearch.api.models import evaluate_tasks

    if tasks is not None:
        report = evaluate_tasks(
            targets,
            split(tasks, "tasks"),
            limit=limit,
            include_path=include_path,
            batch=batch,
            model=model,
            trust_remote_code=trust,
            note=lambda line: say(line, err=True),
        )
        _print_tasks(report, json_)
        return
    if limit is not None or include_path is not None:
        raise problem("SS101", "--limit and --include-path are for --tasks.", fix="For --text and --images: --first.")
    found = api.evaluate(
        targets,
        text=text,
        images=images,
        length=length,
        first=first,
        batch=batch,
        model=model,
        trust_remote_code=trust,
    )
    if json_ and len(found) == 1:
        print_json(found[targets[0]])
    elif json_:
        print_json({"models": [{"target": target} | result for target, result in found.items()]})
    else:
        for target, result in found.items():
            name = f"{target}: " if len(found) > 1 else ""
            say(f"{name}{_described(result)}; {result['params']:,} params, {result['nonzeros']:,} nonzeros")


def _described(result: dict[str, Any]) -> str:
    if "perplexity" in result:
        return (
            f"perplexity {result['perplexity']:.4f} over {result['tokens']:,} tokens in windows of {result['length']}"
        )
    if "documents" in result:
        of = f"{result['documents']:,} documents of {result['length']} tokens"
    else:
        of = f"{result['images']:,} images"
    return f"accuracy {result['accuracy']:.2%} over {of}"


def _print_tasks(report: dict[str, Any], as_json: bool) -> None:
    from sparsesearch.media import Terminal
    from sparsesearch.report.task_table import task_table

    if as_json:
        print_json(report)
    else:
        console = Terminal()
        console.print(task_table(report, console))
