"""KL with a tail bucket, the teacher cache, perplexity, minibatches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsesearch.data import Samples
from sparsesearch.errors import InputError
from sparsesearch.evaluation import (
    QUALITIES,
    Targets,
    Teacher,
    kl_to_teacher,
    perplexity,
    qualities_of,
    quality,
    quality_class,
)
from sparsesearch.evaluation.evaluator import minibatch, next_token_loss, quality_of
from sparsesearch.evaluation.teacher import SparseTeacher, log_probabilities
from sparsesearch.models import load_model
from sparsesearch.models.task import TASKS
from sparsesearch.testing import check_quality

Make = Callable[[str], Path]


def windows(tokens: np.ndarray) -> Samples:
    return Samples({"input_ids": tokens})


def teacher_of(logits: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    index = logits.topk(k, -1).indices
    return index, *log_probabilities(logits, index)


def full_kl(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    p, q = torch.log_softmax(teacher.double(), -1), torch.log_softmax(student.double(), -1)
    return (p.exp() * (p - q)).sum(-1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.floats(0.1, 8))
@settings(deadline=None)
def test_kl_is_never_negative_never_above_the_full_one_and_equal_at_k_v(seed: int, k: int, scale: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher, student = (torch.randn(2, 3, 30, generator=generator) * scale for _ in range(2))
    full = full_kl(teacher, student)
    result = kl_to_teacher(student, *teacher_of(teacher, k))
    assert (result >= 0).all()
    assert (result <= full + 1e-4 * (1 + full)).all()
    assert torch.allclose(kl_to_teacher(student, *teacher_of(teacher, 30)).double(), full, atol=1e-3, rtol=1e-4)


@given(st.integers(0, 2**32 - 1), st.integers(1, 30))
@settings(deadline=None)
def test_kl_is_zero_for_the_teacher_itself_and_only_there(seed: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    teacher = torch.randn(1, 4, 30, generator=generator) * 2
    assert kl_to_teacher(teacher, *teacher_of(teacher, k)).max() < 1e-5
    assert kl_to_teacher(teacher + 3.0, *teacher_of(teacher, k)).max() < 1e-5  # logits shifted, same distribution
    moved = teacher.clone()
    moved[..., teacher.argmax(-1)[0, 0]] -= 2.0
    assert kl_to_teacher(moved, *teacher_of(teacher, k)).max() > 1e-3


def test_mass_leaked_outside_the_top_k_is_not_free() -> None:
    teacher = torch.zeros(1, 1, 100)
    teacher[..., :2] = 20.0
    student = teacher.clone()
    student[..., 2:] = 18.0  # the top two keep their ratio
    assert kl_to_teacher(student, *teacher_of(teacher, 2)).item() > 1.0


def test_sparse_kl_is_that_of_the_top_k_renormalised(tmp_path: Path) -> None:
    """Zero for the dense network, the full KL where k is the vocabulary, and mass outside of the top k is free."""
    samples = Samples({"input_ids": np.zeros((2, 3), dtype=np.int64)})
    torch.manual_seed(0)
    dense, candidate = torch.randn(2, 3, 30) * 2, torch.randn(2, 3, 30) * 2
    full = (dense.softmax(-1) * (dense.log_softmax(-1) - candidate.log_softmax(-1))).sum(-1).mean(-1).double()
    caches = [SparseTeacher.create(tmp_path / str(k), samples, (3, 30), k) for k in (30, 4)]
    for cache in caches:
        cache.write(slice(0, 2), dense)
        assert cache.losses(dense, slice(0, 2)).max() < 1e-6
    torch.testing.assert_close(caches[0].losses(candidate, slice(0, 2)), full, atol=1e-5, rtol=1e-4)
    best = dense.topk(4, dim=-1).indices
    few = [logits.gather(-1, best).double() for logits in (dense, candidate)]
    expected = (few[0].softmax(-1) * (few[0].log_softmax(-1) - few[1].log_softmax(-1))).sum(-1).mean(-1)
    torch.testing.assert_close(caches[1].losses(candidate, slice(0, 2)), expected, atol=1e-5, rtol=1e-4)
    leaking = candidate.scatter_add(-1, dense.argmin(-1, keepdim=True), torch.full((2, 3, 1), 20.0))
    torch.testing.assert_close(caches[1].losses(leaking, slice(0, 2)), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", QUALITIES)
def test_conformance(name: str, tmp_path: Path) -> None:
    check_quality(name, tmp_path)


def test_which_qualities_a_task_has() -> None:
    result = {name: qualities_of(task) for name, task in TASKS.items()}
    classes, embeddings = ("kl", "distance", "error"), ("cosine", "hidden")
    assert result == {
        "causal": ("kl", "sparse_kl", "perplexity"),
        "masked": ("kl", "sparse_kl"),
        "seq2seq": ("kl", "sparse_kl"),
        **dict.fromkeys(("text-classes", "image-classes", "module"), classes),
        **dict.fromkeys(("embedding", "image-embedding"), embeddings),
    }


def test_a_quality_names_tasks_that_there_are() -> None:
    class Mine(Targets):
        tasks = ("casual",)

    with pytest.raises(InputError, match=r"SS127 quality 'mine': .* 'casual', .* Did you mean 'causal'"):
        quality("mine")(Mine)
    with pytest.raises(InputError, match=r"SS127 quality 'mine': .*Targets names ''"):
        quality("mine")(Targets)
    assert "mine" not in QUALITIES
    with pytest.raises(InputError, match=r"SS102 objectives\[0\] 'k': unknown quality"):
        quality_class("k")


@pytest.mark.parametrize("vocabulary", [2048, 100_000])
def test_the_cache_stays_under_3200_bytes_a_token(tmp_path: Path, vocabulary: int) -> None:
    cache = Teacher.create(tmp_path, windows(np.zeros((2, 8), dtype=np.int32)), (8, vocabulary))
    assert cache.bytes_per_token <= 3200


def test_dense_scores_zero_against_its_own_cache_and_workers_share_it(family_dir: Make, tmp_path: Path) -> None:
    model = load_model(family_dir("llama"), torch.float32)
    tokens = np.random.default_rng(0).integers(0, 2048, (4, 16)).astype(np.int32)
    cache = Teacher.create(tmp_path, windows(tokens), (16, 2048))
    cache.fill(model, TASKS["causal"], 0, 2, 2)
    Teacher(tmp_path, "r+").fill(model, TASKS["causal"], 2, 4, 1)
    logits = model(torch.from_numpy(tokens.astype(np.int64))).logits
    again = Teacher(tmp_path)
    assert kl_to_teacher(logits, *again.rows(slice(0, 4), torch.device("cpu"))).max() < 1e-6
    noisy = logits + 0.1 * torch.randn_like(logits)
    kl = kl_to_teacher(noisy, *again.rows(slice(0, 4), torch.device("cpu")))
    assert (kl.double() <= full_kl(logits, noisy)).all()
    assert (kl > 0).all()


def test_a_large_vocabulary_in_half_precision_still_scores_dense_zero(tmp_path: Path) -> None:
    logits = torch.randn(1, 6, 100_000, generator=torch.Generator().manual_seed(0)) * 4

    cache = Teacher.create(tmp_path, windows(np.zeros((1, 6), dtype=np.int32)), (6, 100_000))
    cache.write(slice(0, 1), logits)
    assert cache.arrays["logp"].dtype == np.float16
    assert kl_to_teacher(logits, *cache.rows(slice(0, 1), torch.device("cpu"))).max() < 1e-5


def test_uniform_logits_have_perplexity_v() -> None:
    tokens = np.random.default_rng(0).integers(0, 50, (3, 9))
    loss = next_token_loss(torch.zeros(3, 9, 50), tokens)
    assert np.exp(loss.mean().item()) == pytest.approx(50)


def test_perplexity_does_not_depend_on_the_batch(family_dir: Make) -> None:
    model = load_model(family_dir("qwen3"), torch.float32)
    tokens = np.random.default_rng(0).integers(0, 2048, (7, 16)).astype(np.int32)
    values = [perplexity(model, tokens, batch) for batch in (1, 3, 7)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-5)
    labels = torch.from_numpy(tokens.astype(np.int64))
    assert values[0] == pytest.approx(float(torch.exp(model(labels, labels=labels).loss)), rel=1e-4)


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 5))
def test_minibatches_are_nested_distinct_and_reproducible(count: int, seed: int, draw: int) -> None:
    batches = [minibatch(count, need, seed, draw) for need in range(1, count + 1)]
    for small, large in itertools.pairwise(batches):
        assert small.tolist() == large[:-1].tolist()
    assert sorted(batches[-1].tolist()) == list(range(count))
    assert np.array_equal(batches[0], minibatch(count, 1, seed, draw))


def test_quality_names() -> None:
    losses = np.array([1.0, 3.0])
    assert quality_of(losses, "kl") == 2.0
    assert quality_of(losses, "perplexity") == pytest.approx(np.exp(2.0))
