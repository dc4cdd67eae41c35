"""What a caller says of a run that is there: what its directory cannot hold, and whether code that it names may run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparsesearch.config import RunConfig, load_config, with_absolute_paths
from sparsesearch.plugins import check_trust
from sparsesearch.runs.directory import RunDirectory

if TYPE_CHECKING:  # torch comes with it
    from sparsesearch.evaluation.evaluator import UserQuality


@dataclass(frozen=True)
class Access:
    """What a caller says of a run.

    Attributes:
        module: of a run on a module that was given from Python: the same module again.
        quality: of a run with a quality that was given from Python: the same one again.
        model: directory of the model, if it is another one by now; its content must be the same.
        trusted: whether code that the run directory names is run: plug-ins, a factory, code beside a model.
    """

    module: Any = None
    quality: UserQuality | None = None
    model: str | None = None
    trusted: bool = False

    def config(self, run: RunDirectory, changes: dict[str, Any] | None = None) -> RunConfig:
        """The configuration of a run; raises InputError SS129 where it names code and is not trusted.

        Args:
            changes: other keys of it.
        """
        moved = {} if self.model is None else {"model.id": str(Path(self.model).expanduser().resolve())}
        config = load_config(run.config, (changes or {}) | moved)
        check_trust(config.code, self.trusted, f"run {run.path}")
        return config


UNTRUSTED = Access()
# For runs that the caller's recipe has made.
TRUSTED = Access(trusted=True)


def check_same_code(path: Path, config: RunConfig) -> None:
    """Raise InputError SS129 if a run that was there already names code that the recipe it is used for does not."""
    known = with_absolute_paths(config).code
    other = [name for name in load_config(RunDirectory.open(path).config).code if name not in known]
    check_trust(other, False, f"run {path}")
