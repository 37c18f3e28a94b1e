"""Messages of governance for the wire vectors: one of each kind, and what must be refused."""

from __future__ import annotations

from typing import Any, Final

from swarmllm.messages import governance as g
from swarmllm.wire.codec import encode

DIGEST, FINGERPRINT, CONTROL = bytes(range(32)), bytes(range(32, 64)), bytes(8)
KEY_ID = DIGEST[:16]

GOVERNANCE: Final[tuple[Any, ...]] = (
    g.Observe(0),
    g.Suggest(encode(g.SetSetting(1, 4))),
    g.SandboxTest(encode(g.SetSetting(1, 4))),
    g.SetSetting(1, 4),
    g.SetSetting(65_535, 2**63 - 1),
    g.SetBounds(1, 0, 16),
    g.OpenPhase(1),
    g.ClosePhase(0),
    g.SetFeature("speculation", 1),
    g.SetDefaultModel("hf:owner/model/file.gguf", DIGEST),
    g.Revert(DIGEST),
    g.Proposal(
        DIGEST,
        1,
        KEY_ID,
        1,
        3,
        encode(g.SetSetting(1, 4)),
        g.NO_BASE,
        1,
        CONTROL,
        FINGERPRINT,
        "rounds wait less",
        1_790_000_000_000,
    ),
    g.Proposal(
        DIGEST, 2**32 - 1, KEY_ID, 2**63 - 1, 4, b"\x7f", DIGEST, 2, CONTROL, g.NO_EVIDENCE, "", 0
    ),
    g.Vote(DIGEST, 1, FINGERPRINT, KEY_ID, 1, 1_790_000_000_000),
    g.Withdrawal(DIGEST, 1, FINGERPRINT, KEY_ID, 1_790_000_000_000),
    g.CanaryReport(DIGEST, 1, FINGERPRINT, KEY_ID, 0, 40, 60, 52_000, 48_000, 1_790_000_000_000),
    g.GovernanceTerms(
        (DIGEST, FINGERPRINT),
        2,
        24,
        10,
        3_600,
        0,
        (0, 280, 1_000, 5_000),
        (0, 0, 0, 0),
        30,
        0,
        (b"\0\1" + bytes(8) + (16).to_bytes(8, "big"),),
        (b"\0\1" + (4).to_bytes(8, "big"),),
    ),
    g.TierDecided(DIGEST, 3, 4, 2),
    g.Enacted(DIGEST, "setting 1", "3", "4", ""),
    g.CanaryStep(DIGEST, 1, 40, 60, 52_000, 48_000),
    g.Validated(DIGEST, FINGERPRINT),
    g.NotCarriedOut(DIGEST, "this version does not know the action"),
    g.ReportRead(FINGERPRINT, 2, 3, 0),
    g.SetDigest(DIGEST[:8], CONTROL),
    g.SetSummary(DIGEST[:8], b""),
    g.SetSummary(DIGEST[:8], DIGEST),
    g.SetWanted(DIGEST[:8], DIGEST[:16]),
    g.SetRecords(DIGEST[:8], (b"one", b"two")),
)


def broken_governance() -> dict[str, bytes]:
    return {
        "bounds upside down": encode(g.SetBounds(1, 3, 3)).replace(b"\x03\x03", b"\x03\x02"),
        "a phase beyond the last": b"\x92\x2d\x05",
        "a first change with a base": encode(
            g.Proposal(DIGEST, 1, KEY_ID, 1, 3, b"\1", DIGEST, 2, CONTROL, DIGEST, "", 0)
        ).replace(DIGEST + b"\x02", DIGEST + b"\x01"),
        "a vote of 2": encode(g.Vote(DIGEST, 1, DIGEST, KEY_ID, 1, 0))[:-2] + b"\x02\x00",
        "groups that do not rise": encode(g.SetSummary(DIGEST[:8], DIGEST)).replace(
            DIGEST, DIGEST[16:] + DIGEST[:16]
        ),
        "half a group": b"\x93\x6b\xc4\x08" + bytes(8) + b"\xc4\x08" + bytes(8),
    }
