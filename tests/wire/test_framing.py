"""However a stream is cut, the same frames come out; nobody can make us hold more than one. Cites
protocols/README.md (FRAME)."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swarmllm.errors import LocalError, RemoteError
from swarmllm.messages import FRAME_MAX, Ping, Scores
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.framing import LENGTH_BYTES, FrameReader, frame
from tests.wire.strategies import messages


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(edges)]


@settings(max_examples=40)
@given(st.lists(messages, max_size=4), st.lists(st.integers(0, 1 << 20), max_size=12))
# FRAME-1
def test_frames_do_not_depend_on_how_the_stream_was_cut(
    sent: list[object], cuts: list[int]
) -> None:
    reader = FrameReader(FRAME_MAX)
    stream = b"".join(frame(message) for message in sent)
    found = [data for piece in pieces(stream, cuts) for data in reader.feed(piece)]
    assert found == [encode(message) for message in sent]
    assert not reader.mid_frame
    assert reader.buffered == 0


def test_byte_by_byte_is_enough() -> None:
    reader = FrameReader(FRAME_MAX)
    stream = frame(Ping(7)) + frame(Ping(8))
    found = []
    for at in range(len(stream)):
        got = reader.feed(stream[at : at + 1])
        found += got
        assert reader.mid_frame is ((at + 1) % (len(stream) // 2) != 0)
    assert [decode(data, (Ping,)) for data in found] == [Ping(7), Ping(8)]


@pytest.mark.parametrize("size", [0, FRAME_MAX + 1, 1 << 31, (1 << 32) - 1])
def test_an_impossible_length_breaks_the_stream_for_good(size: int) -> None:  # FRAME-2
    reader = FrameReader(FRAME_MAX)
    with pytest.raises(RemoteError, match=f"frame of {size} bytes"):
        reader.feed(size.to_bytes(LENGTH_BYTES, "big"))
    assert reader.buffered == 0
    with pytest.raises(RemoteError):
        reader.feed(frame(Ping(1)))


@given(st.integers(1, 64), st.lists(st.binary(max_size=200), max_size=8))
def test_no_more_than_one_frame_is_held(frame_max: int, chunks: list[bytes]) -> None:  # FRAME-2
    reader = FrameReader(frame_max)
    for chunk in chunks:
        try:
            found = reader.feed(chunk)
        except RemoteError:
            return
        assert all(1 <= len(data) <= frame_max for data in found)
        assert reader.buffered < LENGTH_BYTES + frame_max
        assert reader.mid_frame is (reader.buffered > 0)


def test_random_streams_give_frames_or_remote_error() -> None:  # FRAME-2; 10^4 executions
    rng = Random(20261123)
    for _ in range(10_000):
        reader = FrameReader(100)
        stream = b"".join(
            rng.randrange(108).to_bytes(4, "big") + rng.randbytes(rng.randrange(108))
            for _ in range(2)
        )
        try:
            found = reader.feed(stream[: rng.randrange(len(stream) + 1)])
        except RemoteError:
            continue
        assert all(1 <= len(data) <= 100 for data in found)


def test_a_length_alone_takes_no_memory() -> None:  # FRAME-2
    reader = FrameReader(FRAME_MAX)
    tracemalloc.start()
    reader.feed(FRAME_MAX.to_bytes(4, "big"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4096
    assert reader.mid_frame


def test_a_message_beyond_the_frame_bound_is_not_sent() -> None:  # FRAME-2
    with pytest.raises(LocalError, match="exceeds the frame bound"):
        frame(Scores(1, 2, 3, (bytes(8192),) * 64, b"", 0, 0, bytes(8)))
