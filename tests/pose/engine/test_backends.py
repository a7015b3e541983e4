"""Fixed shapes try cuDNN's algorithms, others and validation do not; TF32 is as asked for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from pose.engine.backends import many_sizes, set_backends

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def state() -> tuple[bool, bool, str]:
    cudnn = torch.backends.cudnn
    return cudnn.benchmark, cudnn.allow_tf32, torch.get_float32_matmul_precision()


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    before = state()
    yield
    torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32 = before[:2]
    torch.set_float32_matmul_precision(before[2])


@pytest.mark.parametrize("fixed", [False, True])
def test_fixed_shapes_try_algorithms(fixed: bool) -> None:
    _, allowed, precision = state()
    set_backends(GPU, fixed_size=fixed, tf32=None)
    assert state() == (fixed, allowed, precision)
    with many_sizes():
        assert not torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == fixed


@pytest.mark.parametrize(("tf32", "precision"), [(True, "high"), (False, "highest")])
def test_tf32_is_set_for_convolutions_and_products(tf32: bool, precision: str) -> None:
    set_backends(GPU, fixed_size=True, tf32=tf32)
    assert state() == (True, tf32, precision)


def test_a_cpu_is_left_alone() -> None:
    before = state()
    set_backends(CPU, fixed_size=True, tf32=True)
    assert state() == before


def test_sizes_are_many_until_the_end_of_a_failure() -> None:
    torch.backends.cudnn.benchmark = True
    with pytest.raises(KeyError), many_sizes():
        raise KeyError
    assert torch.backends.cudnn.benchmark
