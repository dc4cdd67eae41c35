"""`sparsesearch recover`: train what was found, and write it as a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.cli.options import (
    Json,
    MovedModel,
    Pick,
    RunArgument,
    Trust,
    choose,
    print_json,
    say,
    set_if_given,
    usable,
)
from sparsesearch.errors import problem

if TYPE_CHECKING:
    from sparsesearch.engine.launch.access import Access
    from sparsesearch.engine.workflows.recover import Recovered
    from sparsesearch.runs.results import RunResults


def recover(
    run: RunArgument,
    candidate: Annotated[str | None, typer.Argument(metavar="[ID]", help="Start of a candidate's id.")] = None,
    tokens: Annotated[
        int, typer.Option(min=1, max=10**15, help="Training tokens (images where the data are images).")
    ] = 1_000_000,
    out: Annotated[Path, typer.Option(help="Directory to write; must not exist or be empty.")] = Path("recovered"),
    pick: Pick = None,
    front: Annotated[bool, typer.Option("--front", help="All candidates of the front, each in OUT/ID.")] = False,
    method: Annotated[str | None, typer.Option(help="full, perp, lora, masked_lora or compensate.")] = None,
    training: Annotated[str | None, typer.Option(help="Data to train on; the run's training data by default.")] = None,
    soup: Annotated[int, typer.Option(min=1, max=1000, help="Copies with seeds of their own, averaged greedily.")] = 1,
    form: Annotated[str, typer.Option(help="auto, or one of: sparsesearch list forms.")] = "auto",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="As training.batch.")
    ] = None,
    model: MovedModel = None,
    trust: Trust = False,
    json_: Json = False,
) -> None:
    """Train a candidate while its pruned weights stay zero, write it as a model directory and verify it.

    Each is trained from the run's weights, or where rungs of training left it, towards the dense network. The same
    command reads what was trained already.
    """
    from transformers.utils import logging

    from sparsesearch.config import parse_assignment
    from sparsesearch.engine.launch.access import Access
    from sparsesearch.engine.workflows import recover as recovering
    from sparsesearch.export.write import form_of
    from sparsesearch.engine.launch.reopen import open_run
    from sparsesearch.runs.directory import check_vacant
    from sparsesearch.runs.progress import Reporter
    from sparsesearch.runs.results import RunResults

    logging.disable_progress_bar()
    results = RunResults(Path(run))
    if front and (candidate or pick):
        raise problem("SS501", "--front and a candidate were given.", fix="Give one of them.")
    results.require_front()
    chosen = results.front if front else [choose(results, candidate, pick)]
    if not front:
        check_vacant(usable(out, "--out"))
    changes: dict[str, Any] = set_if_given(training__method=method)
    if training is not None:
        changes["data.training"] = recovering.training_data(results, training, tokens)
    changes |= dict(parse_assignment(text) for text in set_ or [])
    access = Access(model=model, trusted=trust)
    launch = recovering.prepared(results, changes, tokens, soup, access)
    supernet = open_run(results, access).supernet
    for wanted in chosen:
        form_of(supernet, wanted.genome, form)
    if front:
        recovering.claim(out, launch, soup, form)
    places = {one.genome: out / one.genome.id if front else out for one in chosen}
    reporter = Reporter()
    found = recovering.recover(results, launch, chosen, soup, reporter)
    reporter.message(f"Writing and checking {len(found)} in {out}")
    reports = [_written(results, one, places[one.candidate.genome], form, access) for one in found]
    if json_:
        print_json(reports if front else reports[0])
    else:
        _show(reports, results.quality)


def _show(reports: list[dict[str, Any]], quality: str) -> None:
    for done in reports:
        say(
            f"{done['out']}: {quality} {done['before']:.4g} before training, {done['after']:.4g} after "
            f"{done['recovery_tokens']:,} tokens; form {done['form']}, {done['nonzeros']:,} nonzeros."
        )
        say(f"Load: {done['load']}")


def _written(results: RunResults, one: Recovered, place: Path, form: str, access: Access) -> dict[str, Any]:
    """The report of a candidate's model, and of the training; what an earlier call wrote there is read."""
    from sparsesearch.engine.workflows.iterate import exported
    from sparsesearch.export import export

    done = exported(place) or export(results, one.after, place, form, access, trained=one.weights)
    told = {
        "before": one.candidate.quality,
        "after": one.quality,
        "training_tokens": one.after.trained,
        "recovery_tokens": one.tokens,
        "soup": one.copies,
    }
    return done | told
