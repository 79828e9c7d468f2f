"""Weights arrive whole, in any cut, or not at all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from services.weights import Manifest, StaleWeights, checksum, pack, unpack_verified

DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.int8]


def publication(
    tensors: dict[str, torch.Tensor], bucket_bytes: int
) -> tuple[Manifest, list[np.ndarray]]:
    packed = list(pack(tensors.items(), bucket_bytes=bucket_bytes))
    entries = tuple(entry for placed, _ in packed for entry in placed)
    buckets = [bucket for _, bucket in packed]
    return Manifest(3, entries, tuple(map(checksum, buckets)), (1, 2), (-0.5,)), buckets


@given(
    shapes=st.lists(hnp.array_shapes(max_dims=3, max_side=9), min_size=1, max_size=8),
    bucket_bytes=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_every_tensor_comes_back_bit_for_bit_whatever_the_bucket_size(
    shapes: list[tuple[int, ...]], bucket_bytes: int, seed: int
) -> None:
    torch.manual_seed(seed)
    tensors = {
        f"layer.{n}": (torch.randn(shape) * 10).to(DTYPES[n % len(DTYPES)])
        for n, shape in enumerate(shapes)
    }
    manifest, buckets = publication(tensors, bucket_bytes)
    arrived = dict(unpack_verified(manifest, buckets))
    assert list(arrived) == list(tensors)
    for name, tensor in tensors.items():
        assert arrived[name].dtype == tensor.dtype
        assert arrived[name].shape == tensor.shape
        assert torch.equal(arrived[name], tensor)
    assert all(bucket.nbytes <= max(bucket_bytes + 64, 9**3 * 4 + 64) for bucket in buckets)


def test_a_damaged_bucket_is_refused_by_number_and_version() -> None:
    manifest, buckets = publication({"a": torch.ones(8), "b": torch.zeros(8)}, bucket_bytes=32)
    buckets[1] = buckets[1].copy()
    buckets[1][5] ^= 1
    with pytest.raises(StaleWeights, match="bucket 1 of policy version 3 arrived damaged"):
        list(unpack_verified(manifest, buckets))


def test_a_missing_bucket_is_refused() -> None:
    manifest, buckets = publication({"a": torch.ones(8), "b": torch.zeros(8)}, bucket_bytes=32)
    with pytest.raises(StaleWeights, match="has 2 buckets, 1 arrived"):
        list(unpack_verified(manifest, buckets[:1]))


def test_a_transposed_view_is_laid_out_by_its_values_not_its_memory() -> None:
    tensor = torch.arange(6.0).reshape(2, 3).T
    manifest, buckets = publication({"t": tensor}, bucket_bytes=1 << 20)
    assert torch.equal(dict(unpack_verified(manifest, buckets))["t"], tensor)
