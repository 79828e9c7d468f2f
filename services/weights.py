"""Weights on their way from the learner to the engines: versions, buckets, proof of arrival.

A publication is a manifest (plain data) plus flat uint8 buckets that lie in the Ray object
store; an engine maps a bucket, copies it once and loads it. Knows nothing of jobs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

BUCKET_BYTES = 64 << 20


class StaleWeights(RuntimeError):
    """An engine did not prove that it runs the published weights."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one tensor lies: `offset` in bytes within bucket number `bucket`."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bucket: int
    offset: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a publication holds and how its arrival is proven.

    `checksums` are the CRC-32 of each bucket. `canary_ids` is a short prompt and
    `canary_logprobs` float32[len - 1] the learner's own log-probs (temperature 1) of its
    tokens after the first, under exactly these weights; both are empty in a publication for
    teachers, whose arithmetic is the learner's own.
    """

    version: int
    entries: tuple[Entry, ...]
    checksums: tuple[int, ...]
    canary_ids: tuple[int, ...]
    canary_logprobs: tuple[float, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.nbytes for entry in self.entries)

    def accept(self, number: int, bucket: NDArray[np.uint8]) -> list[Entry]:
        """What lies in bucket `number`. Raises StaleWeights when it arrived damaged."""
        if checksum(bucket) != self.checksums[number]:
            raise StaleWeights(f"bucket {number} of policy version {self.version} arrived damaged")
        return [entry for entry in self.entries if entry.bucket == number]


@dataclass(frozen=True, slots=True)
class Publication:
    """A manifest, and references to its buckets in the object store."""

    manifest: Manifest
    buckets: tuple[Any, ...]

    @property
    def version(self) -> int:
        """The policy version it was made of."""
        return self.manifest.version


def pack(
    tensors: Iterable[tuple[str, torch.Tensor]], *, bucket_bytes: int = BUCKET_BYTES
) -> Iterator[tuple[list[Entry], NDArray[np.uint8]]]:
    """Lay tensors end to end into buckets of at most `bucket_bytes` (a larger tensor gets its own).

    Yields (entries, bucket) in order; the entries carry the bucket's number.
    """
    number = 0
    entries: list[Entry] = []
    parts: list[NDArray[np.uint8]] = []
    size = 0
    for name, tensor in tensors:
        raw = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        if parts and size + raw.nbytes > bucket_bytes:
            yield entries, np.concatenate(parts)
            number, entries, parts, size = number + 1, [], [], 0
        dtype = str(tensor.dtype).removeprefix("torch.")
        entries.append(Entry(name, dtype, tuple(tensor.shape), number, size, raw.nbytes))
        # Tensors start on 64-byte boundaries, so that a view of any dtype is aligned.
        padding = -raw.nbytes % 64
        parts.append(np.pad(raw, (0, padding)) if padding else raw)
        size += raw.nbytes + padding
    if parts:
        yield entries, np.concatenate(parts)


def unpack(entries: Iterable[Entry], bucket: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """The tensors of one bucket (uint8[n]) as views of it."""
    for entry in entries:
        flat = bucket[entry.offset : entry.offset + entry.nbytes]
        yield entry.name, flat.view(getattr(torch, entry.dtype)).view(entry.shape)


def checksum(bucket: NDArray[np.uint8]) -> int:
    """CRC-32 of a bucket."""
    return zlib.crc32(np.ascontiguousarray(bucket).data)


def unpack_verified(
    manifest: Manifest, buckets: Iterable[NDArray[np.uint8]]
) -> Iterator[tuple[str, torch.Tensor]]:
    """All tensors of a publication, each bucket checked first.

    Raises StaleWeights when a bucket is missing or damaged.
    """
    arrived = 0
    for number, bucket in enumerate(buckets):
        entries = manifest.accept(number, bucket)
        arrived += 1
        yield from unpack(entries, torch.from_numpy(np.array(bucket)))
    if arrived != len(manifest.checksums):
        raise StaleWeights(
            f"policy version {manifest.version} has {len(manifest.checksums)} buckets, "
            f"{arrived} arrived"
        )
