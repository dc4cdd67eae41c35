"""Where exports are written: places that cannot be, disks that are full, what killed exports left."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparsesearch.engine.reopen import open_run
from sparsesearch.errors import SparseSearchError
from sparsesearch.export import export, write
from sparsesearch.runs.results import RunResults


def _loop(path: Path) -> Path:
    (path / "loop").symlink_to(path / "loop")
    return path / "loop"


def _dangling(path: Path) -> Path:
    (path / "dangling").symlink_to(path / "nowhere")
    return path / "dangling"


def _file(path: Path) -> Path:
    (path / "file").write_text("mine")
    return path / "file"


@pytest.mark.parametrize(
    ("place", "code"),
    [
        (_loop, "SS500"),
        (_dangling, "SS500"),
        (_file, "SS500"),
        (lambda path: _file(path) / "below", "SS312"),
        (lambda path: path / ("x" * 300), "SS126"),
        (lambda path: path / ("x" * 300) / "below", "SS126"),
    ],
)
def test_places_that_cannot_be_are_one_line(
    small_run: RunResults, tmp_path: Path, place: Callable[[Path], Path], code: str
) -> None:
    out = place(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SparseSearchError) as caught:
        export(open_run(small_run), small_run.pick("knee"), out)
    assert caught.value.code == code
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.usefixtures("quick_exports")
@pytest.mark.parametrize("long", [False, True])
def test_a_link_to_an_empty_directory_and_a_long_name_are_places(
    small_run: RunResults, tmp_path: Path, long: bool
) -> None:
    out = tmp_path / ("x" * 255 if long else "link")
    if not long:
        (tmp_path / "target").mkdir()
        out.symlink_to("target")
    export(open_run(small_run), small_run.pick("knee"), out)
    assert out.is_symlink() != long
    assert (out / "config.json").is_file()


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_line_and_leaves_nothing(
    small_run: RunResults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def full(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(write, "write_model_files", full)
    with pytest.raises(SparseSearchError, match=r"SS305 cannot write .*out: no space left on the disk"):
        export(open_run(small_run), small_run.pick("knee"), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick_exports")
def test_what_killed_exports_left_is_removed(small_run: RunResults, tmp_path: Path) -> None:
    ended = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    begin = f".sparsesearch-{socket.gethostname()}-"
    for name in (f"{begin}{int(ended.stdout)}-abc", f"{begin}{os.getpid()}-abc", ".sparsesearch-elsewhere-1-abc"):
        (tmp_path / name).mkdir()
    export(open_run(small_run), small_run.pick("knee"), tmp_path / "out")
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"out", f"{begin}{os.getpid()}-abc", ".sparsesearch-elsewhere-1-abc"}
