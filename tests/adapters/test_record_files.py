"""A file of records is what we would write for the records in it, to the byte, or it is refused."""

from __future__ import annotations

import base64
import os
from functools import cache
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from swarmllm.adapters.atomic_file import replace_whole, write_new
from swarmllm.adapters.keyfile import KeyFile, ephemeral_key
from swarmllm.adapters.operator_keys import verify
from swarmllm.adapters.record_files import (
    FILE_BYTES_MAX,
    Sheet,
    draft,
    merged,
    parse,
    read_sheets,
    render,
    sheet_of,
    with_signature,
)
from swarmllm.errors import LocalError
from swarmllm.messages import SEQ_MAX, Charter, Halt, Live, Resume, Signed
from swarmllm.wire.codec import encode
from swarmllm.wire.marks import marks_of
from swarmllm.wire.signed import key_id, sign_record

PEOPLE = tuple(ephemeral_key() for _ in range(4))
Moments = st.integers(0, 2**63 - 1)


def signed(record: Halt | Resume | Charter | Live, *people: KeyFile) -> bytes:
    return sign_record(record, [(one.public_key, one.sign) for one in people])


def charter(issued_ms: int = 0, expires_ms: int = 0) -> Charter:
    keys = tuple(sorted(one.public_key for one in PEOPLE))
    return Charter(1, bytes(32), keys, keys, keys, (), (), 2, 2, 3, 0, (), issued_ms, expires_ms)


@st.composite
def sheets(draw: st.DrawFn) -> Sheet:
    who = draw(st.lists(st.sampled_from(PEOPLE), min_size=1, max_size=3, unique=True))
    swarm, issued = draw(st.binary(min_size=32, max_size=32)), draw(Moments)
    seqs = st.integers(1, SEQ_MAX)
    match draw(st.sampled_from(["halt", "resume", "charter", "draft"])):
        case "halt":
            return sheet_of(
                signed(
                    Halt(
                        swarm,
                        key_id(who[0].public_key),
                        draw(seqs),
                        draw(st.integers(0, 255)),
                        issued,
                    ),
                    who[0],
                )
            )
        case "resume":
            lifts = marks_of(
                draw(
                    st.dictionaries(
                        st.binary(min_size=16, max_size=16), seqs, min_size=1, max_size=4
                    )
                )
            )
            return sheet_of(
                signed(Resume(swarm, draw(st.integers(1, 2**32 - 1)), lifts, issued), *who)
            )
        case "charter":
            return sheet_of(signed(charter(issued, draw(Moments)), *who))
        case _:
            return draft(charter(issued))


@cache
def example() -> bytes:
    """A charter, a halt, and an unsigned resume."""
    halt = Halt(bytes(32), key_id(PEOPLE[0].public_key), 7, 5, 1_790_000_000_000)
    resume = Resume(bytes(32), 1, marks_of({halt.key: 7}), 1_790_000_000_000)
    return render(
        [sheet_of(signed(charter(), *PEOPLE[:2])), sheet_of(signed(halt, PEOPLE[0])), draft(resume)]
    ).encode()


@given(st.lists(sheets(), min_size=1, max_size=4))
def test_what_is_written_is_read_back(written: list[Sheet]) -> None:
    text = render(written).encode()
    assert parse(text, "file") == tuple(written)
    assert parse(text.replace(b"\n", b"\r\n"), "file") == tuple(written)  # Mail.
    assert parse(text[:-1], "file") == tuple(written)  # Some editors.
    assert all(len(line) <= 120 for line in text.splitlines())


@given(st.data())
def test_any_flipped_byte_is_refused(data: st.DataObject) -> None:
    whole = bytearray(example())
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises(LocalError, match="file"):
        parse(bytes(whole), "file")


def test_a_file_cut_anywhere_is_refused_or_ends_between_two_records() -> None:
    whole = example()
    ends = {0}
    for one in parse(whole, "file"):
        ends.add(max(ends) + len(render([one])))
    for length in range(len(whole) - 1):
        if length in ends - {0} or length + 1 in ends:  # The last line end may be missing.
            assert len(parse(whole[:length], "file")) < 3
            continue
        with pytest.raises(LocalError, match="file"):
            parse(whole[:length], "file")


@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_anything_else_is_refused(junk: bytes) -> None:
    for text in (junk, example() + junk + b".", b"." + junk + example()):
        with pytest.raises(LocalError, match="file"):
            parse(text, "file")


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        (b"Type: HALT", b"Type: RESUME"),
        (b"Order: 7", b"Order: 8"),
        (b"Reason-Code: 5", b"Reason-Code: 1"),
        (b"Version: 1", b"Version: 2"),
        (b"Issued: 2026", b"Issued: 2027"),
        (b"Swarm: 0000", b"Swarm: 0001"),
        (b"Check: ", b"Note: lift it all\nCheck: "),
        (b"-----BEGIN", b"\n-----BEGIN"),
    ],
)
def test_a_readable_line_that_says_something_else_than_the_record_is_refused(
    line: bytes, instead: bytes
) -> None:
    assert line in example()
    with pytest.raises(LocalError, match="file"):
        parse(example().replace(line, instead), "file")


def _armoured(data: bytes, like: str) -> str:
    """The readable lines of `like` round other bytes, with a check that fits them."""
    head = [
        line
        for line in like.split("\n\n", maxsplit=1)[0].split("\n")
        if not line.startswith("Check")
    ]
    text = base64.b64encode(data).decode()
    body = [text[at : at + 64] for at in range(0, len(text), 64)]
    end = like.rstrip("\n").rsplit("\n", 1)[1]
    return "\n".join([*head, f"Check: {sha256(data).hexdigest()[:16]}", "", *body, end, ""])


def test_a_bad_signature_is_named() -> None:
    halt = Halt(bytes(32), key_id(PEOPLE[0].public_key), 7, 5, 0)
    good = signed(halt, PEOPLE[0])
    assert _armoured(good, render([sheet_of(good)])) == render([sheet_of(good)])
    forged = encode(Signed(encode(halt), (PEOPLE[0].public_key + PEOPLE[1].sign(b"anything"),)))
    with pytest.raises(
        LocalError, match=f"bad signature of key {key_id(PEOPLE[0].public_key).hex()}"
    ):
        parse(_armoured(forged, render([sheet_of(good)])).encode(), "file")


def test_a_beacons_sign_of_life_and_an_unsigned_halt_are_no_files() -> None:
    key = key_id(PEOPLE[0].public_key)
    live = signed(Live(bytes(32), 1, key, 1, 0, 60, bytes(8)), PEOPLE[0])
    like = render([sheet_of(signed(Halt(bytes(32), key, 7, 5, 0), PEOPLE[0]))])
    with pytest.raises(LocalError, match="sign of life"):
        parse(_armoured(live, like).encode(), "file")
    unsigned = _armoured(encode(Halt(bytes(32), key, 7, 5, 0)), like).replace("SIGNED", "UNSIGNED")
    with pytest.raises(LocalError, match="Resume, Charter"):
        parse(unsigned.encode(), "file")


def test_more_than_any_swarm_has_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    one = render([draft(charter())])
    with pytest.raises(LocalError, match="more than 97"):
        parse((one * 98).encode(), "file")
    (tmp_path / "big").write_bytes(b"x" * (FILE_BYTES_MAX + 1))
    with pytest.raises(LocalError, match="larger than"):
        read_sheets(tmp_path / "big")
    wide = one.replace("\n\n", "\n\n" + ("A" * 64 + "\n") * 100)
    with pytest.raises(LocalError, match="more than any record"):
        parse(wide.encode(), "file")


def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "absent"):
        with pytest.raises(LocalError, match=str(path)):
            read_sheets(path)


@given(st.permutations(PEOPLE[:3]))
def test_signatures_add_up_in_any_order_and_nobody_counts_twice(order: list[KeyFile]) -> None:
    one = draft(charter())
    for person in (*order, order[0]):
        one = with_signature(one, person.public_key, person.sign)
    assert one == sheet_of(signed(charter(), *PEOPLE[:3]))
    apart = [with_signature(draft(charter()), person.public_key, person.sign) for person in order]
    together = draft(charter())
    for copy in (*apart, apart[0]):
        together = merged(together, copy)
    assert together == one
    assert all(verify(key, b"", b"") is False for key in one.signers)


def test_signatures_of_different_records_do_not_add_up() -> None:
    with pytest.raises(LocalError, match="different records"):
        merged(sheet_of(signed(charter(1), PEOPLE[0])), sheet_of(signed(charter(2), PEOPLE[1])))


# --- writing --------------------------------------------------------------------------------------


def test_killed_while_replacing_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"
    seen = set()
    for step in range(1, 40):
        path.write_bytes(b"old")
        if (child := os.fork()) == 0:
            calls = [0]
            for name in ("open", "write", "fsync", "replace", "unlink", "close"):
                setattr(os, name, _dying(getattr(os, name), calls, step))
            replace_whole(path, b"new", "the file")
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        seen.add(path.read_bytes())
        if code == 0:
            break
        assert code == 9
    assert seen == {b"old", b"new"}


def _dying(real: object, calls: list[int], step: int) -> object:
    def call(*values: object, **named: object) -> object:
        calls[0] += 1
        if calls[0] == step:
            os._exit(9)
        return real(*values, **named)  # type: ignore[operator]

    return call


def test_a_replaced_file_stays_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    replace_whole(tmp_path / "link", b"new", "the file")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


def test_a_full_disk_keeps_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("old")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LocalError, match="disk is full"):
        replace_whole(tmp_path / "file", b"new", "the file")
    with pytest.raises(LocalError, match="disk is full"):
        write_new(tmp_path / "other", b"new", "the file")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"
