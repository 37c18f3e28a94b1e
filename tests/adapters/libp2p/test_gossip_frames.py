"""Laws of our own gossip frames: nobody is sent one that it would have to strike us for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from libp2p.pubsub.pb import rpc_pb2

from swarmllm.adapters.libp2p.gossip import RPC_BYTES_MAX, RPC_ITEMS_MAX, parts_of


@given(st.lists(st.integers(1, 4096), max_size=120), st.integers(0, 400))
def test_a_long_frame_goes_out_as_several_that_keep_to_the_bounds(
    sizes: list[int], record: int
) -> None:
    rpc = rpc_pb2.RPC()
    if record:
        rpc.senderRecord = bytes(record)
    for i, size in enumerate(sizes):
        rpc.publish.add(data=i.to_bytes(2, "big") * (size // 2 + 1), topicIDs=["t"])
    parts = parts_of(rpc)
    assert [m.data for part in parts for m in part.publish] == [m.data for m in rpc.publish]
    assert all(
        part.ByteSize() <= RPC_BYTES_MAX and len(part.publish) <= RPC_ITEMS_MAX for part in parts
    )
    assert sum(part.HasField("senderRecord") for part in parts) == bool(record)
