"""Write the Python messages of protocols/mesh_llm.proto, mesh_llm_pb2.py and its .pyi in
swarmllm/adapters/grpc_service, with the compiler of grpcio-tools.

python scripts/make_mesh_stubs.py            writes both files
python scripts/make_mesh_stubs.py --check    exits 1 if one is not up to date

They are committed: whoever installs swarmllm needs no compiler of protocol buffers, a checkout runs
as it is, and a change of the wire shows in review. A test compares them with the definition.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
PROTO: Final = ROOT / "protocols" / "mesh_llm.proto"
PACKAGE: Final = ROOT / "swarmllm" / "adapters" / "grpc_service"
NAMES: Final = ("mesh_llm_pb2.py", "mesh_llm_pb2.pyi")


def compiled(folder: Path, *, with_client: bool = False) -> dict[str, str]:
    """The generated files by name, made in `folder`; `with_client`: with mesh_llm_pb2_grpc.py, as
    any client would."""
    from grpc_tools import protoc

    flags = [f"--python_out={folder}", f"--pyi_out={folder}"]
    if with_client:
        flags.append(f"--grpc_python_out={folder}")
    # The definitions that come with the compiler (google/protobuf) are not used.
    code = protoc.main(["protoc", f"--proto_path={PROTO.parent}", *flags, PROTO.name])
    if code:
        raise SystemExit(f"protoc refused {PROTO.name} (exit code {code})")
    return {path.name: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.py*"))}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing, only compare")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        made = compiled(Path(folder))
    stale = [
        name
        for name in NAMES
        if not (PACKAGE / name).exists()
        or (PACKAGE / name).read_text(encoding="utf-8") != made[name]
    ]
    if not check:
        for name in stale:
            (PACKAGE / name).write_text(made[name], encoding="utf-8")
    for name in stale:
        print(f"{name}: {'not up to date' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
