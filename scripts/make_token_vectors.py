"""Rebuild tests/vectors/llama3_tokens.json from llama.cpp's published test vectors for the LLaMA-3
vocabulary.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36
    python scripts/make_token_vectors.py llama_cpp_python-0.3.36.tar.gz

llama.cpp wrote them with the tokenizer that was published with the model; they are an independent
word on what the ids of a text are.
"""

from __future__ import annotations

import argparse
import json
import tarfile
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "tests" / "vectors" / "llama3_tokens.json"
INPUTS = "vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf.inp"
SEPARATOR = "\n__ggml_vocab_test__\n"


def read_member(archive: tarfile.TarFile, ending: str) -> str:
    names = [name for name in archive.getnames() if name.endswith(ending)]
    found = archive.extractfile(names[0]) if len(names) == 1 else None
    if found is None:
        raise SystemExit(
            f"make_token_vectors: {archive.name!s} holds {len(names)} files {ending}, not one"
        )
    return found.read().decode()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("archive", type=Path, help="source archive of llama-cpp-python")
    args = parser.parse_args()
    with tarfile.open(args.archive) as archive:
        texts = read_member(archive, INPUTS).split(SEPARATOR)
        lines = read_member(archive, INPUTS.removesuffix("inp") + "out").splitlines()
    if texts.pop() != "" or len(texts) != len(lines):
        raise SystemExit(f"make_token_vectors: {len(texts)} texts, but {len(lines)} lists of ids")
    source = f"llama.cpp (MIT licence), {INPUTS} and .out, in {args.archive.name}"
    rows = [
        json.dumps({"text": text, "ids": [int(i) for i in line.split()]}, ensure_ascii=False)
        for text, line in zip(texts, lines, strict=True)
    ]
    OUT.parent.mkdir(parents=True, exist_ok=True)
    vectors = ",\n".join(rows)
    OUT.write_text(
        f'{{"source": {json.dumps(source)},\n"vectors": [\n{vectors}\n]}}\n', encoding="utf-8"
    )
    print(f"{OUT}: {len(texts)} vectors")


if __name__ == "__main__":
    main()
