"""The compact form of the bundled demo experts, and its expansion into a GGUF file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class CompactModel:
    name: str
    shape: dict[str, int | float]
    active_ids: npt.NDArray[np.int32]
    rows: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]
    bias_input: float
    unused_bias: float
    layers: dict[str, npt.NDArray[np.float32]]
