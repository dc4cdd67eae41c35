"""Parts of a run that its directory cannot hold, and whether code that it names may run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.config import RunConfig, load_config, with_absolute_paths
from sparsesearch.plugins import check_trust
from sparsesearch.runs.directory import RunDirectory
from sparsesearch.runs.progress import Reporter

if TYPE_CHECKING:  # torch comes with it
    from sparsesearch.evaluation.evaluator import UserQuality


@dataclass(frozen=True)
class Access:
    """The parts of a run that its directory cannot hold, and the permission to run its code.

    Attributes:
        module: for a run on a module from Python: the same module.
        quality: for a run with a quality function from Python: the same function.
        model: directory of the model, if it was moved; its content must be the same.
        trusted: whether code that the run directory names may run: plug-ins, a factory, code beside a model.
    """

    module: Any = None
    quality: UserQuality | None = None
    model: str | None = None
    trusted: bool = False

    def config(self, run: RunDirectory, changes: dict[str, Any] | None = None) -> RunConfig:
        """Return the configuration of a run; raises InputError SS129 if it names code and is not trusted.

        Args:
            changes: values of keys that replace the run's.
        """
        moved = {} if self.model is None else {"model.id": str(Path(self.model).expanduser().resolve())}
        config = load_config(run.config, (changes or {}) | moved)
        check_trust(config.code, self.trusted, f"run {run.path}")
        return config


UNTRUSTED = Access()
# For runs made from the caller's own recipe.
TRUSTED = Access(trusted=True)


def report_code(config: RunConfig, reporter: Reporter) -> None:
    """Say which code a recipe runs, apart from a model that the user named."""
    if names := [name for name in config.code if name != config.model.id]:
        reporter.message(f"Runs code that the recipe names: {', '.join(names)}")


def check_same_code(path: Path, config: RunConfig) -> None:
    """Raise InputError SS129 if an existing run names code that the recipe does not name."""
    named = with_absolute_paths(config).code
    unnamed = [name for name in load_config(RunDirectory.open(path).config).code if name not in named]
    check_trust(unnamed, False, f"run {path}")
