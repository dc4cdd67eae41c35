"""The command line: one file for each verb, with heavy imports inside the verbs."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch import __version__, logs
from sparsesearch.cli.verbs import (
    audit,
    choose,
    compare,
    dashboard,
    doctor,
    evaluate,
    export,
    front,
    iterate,
    latency,
    list_,
    recover,
    refine,
    report,
    resume,
    search,
    show,
    space,
    status,
    track,
)
from sparsesearch.error_codes import UNFORESEEN_EXIT
from sparsesearch.errors import SparseSearchError, first_line, machine_problem, printable, problem
from sparsesearch.runs import interrupts

# click's base of all usage errors, which is in click or in typer depending on typer's version.
_UsageProblem: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")

# Exit code after Ctrl-C, which some versions of typer raise as Abort and others return as this code.
INTERRUPTED = 130

app = typer.Typer(
    help="Search how sparse, narrow and shallow each part of a trained network should be.\n\nEvery command takes -v "
    "(--verbose), which shows the log on stderr, and --debug, which shows its details and tracebacks of errors too.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        print(f"sparsesearch {__version__}")
        raise typer.Exit


app.command("search")(search.search)
app.command("resume")(resume.resume)
app.command("recover")(recover.recover)
app.command("latency")(latency.latency)
app.command("iterate")(iterate.iterate)
app.command("choose")(choose.choose_samples)
app.command("refine")(refine.refine)
app.command("front")(front.front)
app.command("show")(show.show)
app.command("status")(status.status)
app.command("track")(track.track)
app.command("dashboard")(dashboard.dashboard)
app.command("report")(report.report)
app.command("export")(export.export)
app.command("compare")(compare.compare)
app.command("audit")(audit.audit)
app.command("evaluate")(evaluate.evaluate)
app.add_typer(space.app, name="space")
app.command("list")(list_.list_)
app.command("doctor")(doctor.doctor)


def main() -> None:
    """Run a command; every error becomes one line and its exit code.

    `-v` shows the log, on workers too; `--debug` also its details, and tracebacks of errors.
    """
    interrupts.install()
    # This process is ours: a factory, and imports inside its functions, are found here.
    sys.path.append(str(Path.cwd()))
    flags, arguments = _log_flags(sys.argv[1:])
    debug = "--debug" in flags
    if flags:
        logs.show(logging.DEBUG if debug else logging.INFO)
    try:
        code = app(arguments, standalone_mode=False)
    except _UsageProblem as error:
        error.show()
        code = error.exit_code
    except (typer.Abort, KeyboardInterrupt):
        code = INTERRUPTED
    except Exception as error:
        if debug:
            raise
        code = _explain(error, arguments)
    if code == INTERRUPTED:
        print("Interrupted.", file=sys.stderr)
    sys.exit(code or 0)


def _log_flags(arguments: list[str]) -> tuple[set[str], list[str]]:
    """Return the log flags among arguments, and all other arguments; arguments behind `--` are kept."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    flags = {"-v", "--verbose", "--debug"} & set(arguments[:end])
    return flags, [a for a in arguments[:end] if a not in flags] + arguments[end:]


def _explain(error: Exception, arguments: list[str]) -> int:
    """Print one line for an error, and with `--json` also a document; returns its exit code."""
    reported = error if isinstance(error, SparseSearchError) else machine_problem(error)
    if reported is None:
        reported = problem(
            "SS900",
            f"sparsesearch {' '.join(arguments[:1])} failed: {type(error).__name__}: {first_line(error)}.",
            fix=f"This is a fault of sparsesearch: please report it with {_write_traceback(error)}.",
        )
        reported.exit_code = UNFORESEEN_EXIT
    if "--json" in arguments:
        print(json.dumps({"code": reported.code, "message": reported.message, "hint": reported.hint}))
    print(printable(str(reported)), file=sys.stderr)
    return reported.exit_code


def _write_traceback(error: Exception) -> str:
    """Write the traceback to a file; returns its path, or the output to report if none can be written."""
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="sparsesearch-", suffix=".traceback.txt", delete=False, encoding="utf-8", errors="replace"
        ) as file:
            file.write(f"{sys.argv}\n{''.join(traceback.format_exception(error))}")
        return str(Path(file.name))
    except OSError:
        return "the output of --debug"
