"""Eigenvalues are computed by one thread, and no other thread notices."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from impasto.objectives import symmetric_eigen
from impasto.objectives.symmetric_eigen import eigh

MKL, OPENMP = "MKL_Set_Num_Threads_Local", "omp_set_num_threads"


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    symmetric_eigen._thread_setters.cache_clear()
    yield
    symmetric_eigen._thread_setters.cache_clear()
    torch.set_num_threads(before)


def covariance(channels: int) -> Tensor:
    generator = torch.Generator().manual_seed(channels)
    x = torch.randn(channels, 2 * channels, dtype=torch.float64, generator=generator)
    return x @ x.T / x.shape[1]


@pytest.mark.parametrize("channels", [1, 8, 64, 200, 256])
def test_the_result_is_that_of_one_thread_to_the_bit(channels: int):
    matrix = covariance(channels)
    torch.set_num_threads(1)
    expected = torch.linalg.eigh(matrix)
    torch.set_num_threads(2)
    for result, wanted in zip(eigh(matrix), expected, strict=True):
        assert torch.equal(result, wanted)


def test_a_thread_that_starts_meanwhile_has_all_its_threads(monkeypatch: pytest.MonkeyPatch):
    counts: list[int] = []

    def started_meanwhile(matrix: Tensor) -> tuple[Tensor, Tensor]:
        thread = threading.Thread(target=lambda: counts.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return matrix[0], matrix

    monkeypatch.setattr(torch.linalg, "eigh", started_meanwhile)
    eigh(covariance(4))
    assert counts == [2]
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize("available", [(OPENMP, MKL), (MKL,), (OPENMP,), ()])
def test_the_numbers_before_are_restored_also_after_an_error(
    monkeypatch: pytest.MonkeyPatch, available: tuple[str, ...]
):
    calls: dict[str, list[int]] = {name: [] for name in available}

    def setter(name: str) -> Callable[[int], int]:
        def set_threads(number: int) -> int:
            calls[name].append(number)
            return 7  # the number before, which MKL returns and OpenMP does not

        return set_threads

    library = SimpleNamespace(**{name: setter(name) for name in available})
    monkeypatch.setattr(symmetric_eigen, "_torch_library", lambda: library)
    monkeypatch.setattr(torch.linalg, "eigh", lambda matrix: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        eigh(covariance(4))
    restored = {MKL: 7, OPENMP: 2}
    assert calls == {name: [1, restored[name]] for name in available}


def test_a_library_that_cannot_be_opened_changes_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(symmetric_eigen, "_torch_library", lambda: None)
    values, vectors = eigh(covariance(8))
    assert torch.allclose(vectors @ values.diag() @ vectors.T, covariance(8))
