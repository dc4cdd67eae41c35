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
        Path | None,
        typer.Option(
            help="Texts: for a language model a UTF-8 file or a table, for perplexity; for a classifier a table "
            "(.parquet, .jsonl, .csv, ...) with columns text and label, for accuracy."
        ),
    ] = None,
    images: Annotated[
        str | None, typer.Option(help="Images, for accuracy: a folder of classes, a .parquet file or datasets:ID.")
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks of lm-eval, such as 'arc_easy,hellaswag' (needs the extra `eval`).")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="With --tasks: documents of each task (default: all).")
    ] = None,
    include_path: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="With --tasks: directory of further task files."),
    ] = None,
    length: Annotated[int, typer.Option(min=2, help="Tokens in a window.")] = 256,
    first: Annotated[
        int | None, typer.Option(min=1, help="Number of first windows or images to take (default: all).")
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Windows, images or requests in a forward pass.")] = 8,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Measure perplexity on --text, accuracy on --images or a table of texts (columns `text`, `label`), or --tasks.

    Perplexity is over windows of equal length without special tokens; the first token of each window is not predicted.
    On tasks, candidates and exports are compared with the dense models that they came from.
    """
    if sum(option is not None for option in (text, images, tasks)) != 1:
        raise problem("SS101", "evaluate needs one of --text, --images and --tasks.", fix="Give exactly one.")
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
    results = api.evaluate(
        targets,
        text=text,
        images=images,
        length=length,
        first=first,
        batch=batch,
        model=model,
        trust_remote_code=trust,
    )
    if json_ and len(results) == 1:
        print_json(results[targets[0]])
    elif json_:
        print_json({"models": [{"target": target} | result for target, result in results.items()]})
    else:
        for target, result in results.items():
            name = f"{target}: " if len(results) > 1 else ""
            say(f"{name}{_quality_text(result)}; {result['params']:,} params, {result['nonzeros']:,} nonzeros")


def _quality_text(result: dict[str, Any]) -> str:
    if "perplexity" in result:
        return (
            f"perplexity {result['perplexity']:.4f} over {result['tokens']:,} tokens in windows of {result['length']}"
        )
    if "documents" in result:
        samples = f"{result['documents']:,} documents of {result['length']} tokens"
    else:
        samples = f"{result['images']:,} images"
    return f"accuracy {result['accuracy']:.2%} over {samples}"


def _print_tasks(report: dict[str, Any], as_json: bool) -> None:
    from sparsesearch.media import Terminal
    from sparsesearch.report.task_table import task_table

    if as_json:
        print_json(report)
    else:
        console = Terminal()
        console.print(task_table(report, console))
