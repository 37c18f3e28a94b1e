"""llama.cpp's own answers, for comparison."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import llama_cpp.llama_cpp as llama
import numpy as np

from swarmllm.adapters.llama.tokenizer import LlamaTokenizer


def detokenize(tokenizer: LlamaTokenizer, ids: Sequence[int]) -> bytes:
    tokens = np.array(ids, np.int32)
    address = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    room = ctypes.create_string_buffer(16)
    for _ in range(2):
        count = llama.llama_detokenize(
            tokenizer._vocab, address, len(ids), room, len(room), False, False
        )
        if count >= 0:
            return room.raw[:count]
        room = ctypes.create_string_buffer(-count)
    raise AssertionError("llama.cpp's detokeniser changes its mind")
