import numpy as np
import numpy.typing as npt

def encode_rows(
    logits: npt.NDArray[np.float32],
    bounds: npt.NDArray[np.int32],
    vocabulary: int,
    threads: int = 1,
    /,
) -> list[bytes | None]: ...
def decode_list(
    data: bytes, entries_max: int, vocabulary: int, odds: float, /
) -> tuple[bytes, bytes] | None: ...
