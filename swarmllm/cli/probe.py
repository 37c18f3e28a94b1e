"""Read a model file's header in a process of its own: the file comes from a stranger, and what it
breaks must not be the command.

`python -m swarmllm.cli.probe FILE CACHE` prints one JSON object: the facts, or the sentence that
says what is wrong.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from swarmllm.cli.output import write_stdout
from swarmllm.errors import LocalError

# Address space: a header of the largest vocabulary takes a tenth of this.
MEMORY_BYTES_MAX: Final = 4 << 30
SECONDS_MAX: Final = 300.0  # Hashing 40 GB from a slow disk.


def probe(path: Path, cache_dir: Path) -> dict[str, Any]:
    """`name, vocab, n_params, context_max, size_bytes, digest, has_chat_template` of a GGUF file.
    LocalError with one sentence for one that is unfit."""
    command = [sys.executable, "-P", "-m", "swarmllm.cli.probe", str(path), str(cache_dir)]
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=SECONDS_MAX, check=False, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired as error:
        raise LocalError(
            f"reading {path} took longer than {SECONDS_MAX:.0f} s; check the disk that it is on"
        ) from error
    try:
        found: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise LocalError(
            f"the header of {path} broke the process that read it (code {done.returncode}):"
            " it is damaged, or made to do so; compare its checksum with the one that its source"
            " states, or choose another model"
        ) from error
    if "error" in found:
        raise LocalError(found["error"])
    return found


def _main(path: Path, cache_dir: Path) -> dict[str, object]:
    from swarmllm.adapters.llama.gguf_file import file_digest, read_model_file

    try:
        found = read_model_file(path)
        digest = file_digest(path, cache_dir, found.parts)
    except LocalError as fault:
        return {"error": str(fault)}
    except OSError as fault:
        return {
            "error": (
                f"cannot read the model file {path} ({fault.strerror});"
                " check the disk and its permissions"
            )
        }
    return {
        "name": found.name,
        "vocab": found.vocab_fingerprint.hex(),
        "n_params": found.n_params,
        "context_max": found.context_trained,
        "size_bytes": found.size_bytes,
        "digest": digest.hex(),
        "has_chat_template": found.has_chat_template,
    }


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    write_stdout(json.dumps(_main(Path(sys.argv[1]), Path(sys.argv[2]))) + "\n")
