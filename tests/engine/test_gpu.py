"""A run on a GPU finds what a run on the CPU finds; skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import kinds_of, run_search

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]


def test_a_gpu_run_agrees_with_a_cpu_run(family_dir: Callable[[str], Path], tmp_path: Path) -> None:
    units = kinds_of(family_dir("llama"))
    on_cpu = run_search(tmp_path / "cpu", family_dir("llama"), units=units)
    executor = {"kind": "local", "gpus_per_worker": 1}
    on_gpu = run_search(tmp_path / "gpu", family_dir("llama"), units=units, executor=executor)
    quality = {e.genome: e.quality for e in on_cpu.final}
    shared = [e for e in on_gpu.final if e.genome in quality]
    assert len(shared) >= 3
    assert [e.quality for e in shared] == pytest.approx([quality[e.genome] for e in shared], rel=0.05, abs=1e-4)
