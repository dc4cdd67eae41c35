"""Tiny real models of every family, built from configs and saved as checkpoints; nothing is downloaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import kinds_of, recipe, run_search, tiny_model
from transformers.utils import logging

from sparsesearch.engine.results import RunResults
from sparsesearch.models import load_tokenizer
from sparsesearch.models.load import DEMO

logging.disable_progress_bar()
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def family_dir(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A saved tiny model of a family with the demo tokenizer; biases and norms are not at their trivial values."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            torch.manual_seed(0)
            model = tiny_model(name)
            for parameter_name, parameter in model.named_parameters():
                if parameter.ndim == 1:
                    with torch.no_grad():
                        parameter.copy_(torch.randn_like(parameter) * 0.1 + ("norm" in parameter_name))
            made[name] = tmp_path_factory.mktemp(name)
            model.save_pretrained(made[name])
            load_tokenizer(DEMO).save_pretrained(made[name])
        return made[name]

    return make


@pytest.fixture(scope="session")
def small_run(family_dir: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> RunResults:
    """A finished run on the tiny Llama with all unit kinds and test data; read it, do not change it."""
    data = recipe("")["data"] | {"test": {"source": "stdlib:test", "sequences": 4, "length": 16, "take": "first"}}
    return run_search(
        tmp_path_factory.mktemp("runs") / "small",
        family_dir("llama"),
        units=kinds_of(family_dir("llama")),
        data=data,
        limits=["params<=97%"],
    )
