"""Votes over HTTP: who may ask for one, what it takes, and that it is one with those of the command
line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from starlette.requests import Request

from swarmllm.adapters import operator_keys
from swarmllm.adapters.governance_file import case_of, opened
from swarmllm.api.guard import Guard
from swarmllm.api.problem import Problem
from swarmllm.api.routes import api
from swarmllm.api.voting import TRIES_MAX, TRY_EVERY_S, Tries, Voting
from swarmllm.core.settings.table import EXTRA
from swarmllm.core.validation.report import encode_report
from swarmllm.messages.governance import Proposal, SetSetting, Vote
from swarmllm.runtime.service.record import NO_PARAMS, Record
from swarmllm.wire.codec import decode, encode
from swarmllm.wire.signed import sign_record
from tests.api.http_client import HOST, Caller, Got
from tests.cli.governance.governed_node import GovernedNode, write_report
from tests.cli.operators.conftest import PASSPHRASE, Desk

API_KEY: Final = "a-key-of-sixteen-or-more"
HASHED: Final = "sha256:" + sha256(API_KEY.encode()).hexdigest()
TOKEN: Final = "a-token"
ROLES: Final = [
    f"--{role}={name}.pub" for role in ("root", "resume", "voter") for name in ("ann", "bob", "cy")
]


class Asked:
    """A client of the API's: a node that is governed."""

    def __init__(self, governed: GovernedNode) -> None:
        self.governed = governed

    @asynccontextmanager
    async def call(
        self, op: str, params: Mapping[str, object] = NO_PARAMS
    ) -> AsyncIterator[AsyncIterator[Record]]:
        async with aclosing(self.governed.service.call(op, params)) as records:
            yield records


class Node(Asked):
    """Three voters, of whom ann and bob have their keys in the data folder, eve who is none, and a
    proposal of ann's that takes two votes."""

    id = ""

    def __init__(self, desk: Desk, governed: GovernedNode) -> None:
        super().__init__(governed)
        self.desk = desk
        self.keys = desk.folder / "keys"

    def propose(self) -> None:
        made = write_report(self.governed, self.desk.folder / "report", 3)
        asked = {
            "action": encode(SetSetting(EXTRA.code, 3)).hex(),
            "evidence": sha256(encode_report(made)).hexdigest(),
        }
        data = self.signed("propose", Proposal, "ann", **asked)
        self.id = case_of(opened(data)).hex()
        trio.run(self.governed.asked, "submit", {"records": [data.hex()]})

    def signed(self, op: str, kind: Any, by: str, **asked: object) -> bytes:
        """What the node drafts, signed as the command does."""
        key = self.desk.keys[by]
        (draft,) = trio.run(self.governed.asked, op, asked | {"key": key.public_key.hex()})
        record = decode(bytes.fromhex(draft["payload"]), (kind,))
        return sign_record(record, [(key.public_key, key.unseal(PASSPHRASE))])

    def caller(self, guard: Guard | None = None, **more: Any) -> Caller:
        guard = guard or Guard(token=TOKEN)
        app = api(self, guard, key_folder=self.keys)
        return Caller(app, **{"headers": {"x-swarmllm-token": TOKEN}, **more})

    def body(self, by: str = "ann", **more: object) -> dict[str, object]:
        key = self.desk.keys[by].id.hex()
        return {"id": self.id, "yes": True, "key": key, "passphrase": PASSPHRASE, **more}

    def vote(self, by: str = "ann", caller: Caller | None = None, **more: object) -> Got:
        return self.post(self.body(by, **more), caller)

    def post(self, body: object, caller: Caller | None = None, path: str = "/api/vote") -> Got:
        return trio.run((caller or self.caller()).post, path, body)

    @property
    def shown(self) -> dict[str, Any]:
        return dict(trio.run(self.governed.asked, "proposal", {"id": self.id})[0])


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """The keys, the charter and the commands, once for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator_keys, "SCRYPT_COST", 16)  # Guessing is cheap here.
        desk = Desk(tmp_path_factory.mktemp("desk"), patch)
        desk.make("ann", "bob", "cy", "eve")
        terms = ("--canary-seconds", "0", "--phase", "1")
        desk.ok("charter", "create", *ROLES, "--halt", "ann.pub", *terms, "--out", "c1")
        desk.ok("charter", "sign", "c1", "--key", "ann.key", "--key", "bob.key")
        (desk.folder / "keys").mkdir()
        for name in ("ann", "bob", "eve"):
            (desk.folder / f"{name}.key").rename(desk.folder / "keys" / f"{name}.key")
        yield desk


@pytest.fixture
def node(desk: Desk, tmp_path: Path) -> Iterator[Node]:
    with GovernedNode(tmp_path / "data", desk.folder / "c1") as governed:
        node = Node(desk, governed)
        node.propose()
        yield node
        for path in node.keys.iterdir():
            path.chmod(0o600)


def refused(got: Got, status: int, code: str) -> str:
    assert got.status == status, got.body
    error = got.json()["error"]
    assert error["code"] == code
    assert PASSPHRASE.encode() not in got.body
    return str(error["message"])


# --- a vote ---------------------------------------------------------------------------------------


def test_a_vote_of_the_page_and_one_of_the_command_line_pass_a_proposal(node: Node) -> None:
    told = node.vote("ann").json()
    assert (told["signed_by"], told["peers"], told["fault"]) == ("ann", 2, "")
    assert told["proposal"]["yes"] == [node.desk.keys["ann"].id.hex()]
    assert told["proposal"]["state"] == "open"
    node.desk.ok("vote", node.id[:8], "yes", "--key", "cy.key", *node.governed.flags)
    assert node.shown["state"] == "enacted"
    assert set(node.shown["yes"]) == {node.desk.keys[name].id.hex() for name in ("ann", "cy")}
    assert node.governed.settings.get(EXTRA) == 3


def test_a_vote_against_is_one(node: Node) -> None:
    assert node.vote("bob", yes=False).status == 200
    assert node.shown["no"] == [node.desk.keys["bob"].id.hex()]


def test_what_was_signed_elsewhere_is_handed_in(node: Node) -> None:
    """Also from afar: what counts is the signature."""
    data = node.signed("vote", Vote, "cy", id=node.id, yes=True)
    far = node.caller(peer="192.0.2.7")
    [told] = node.post({"records": [data.hex()]}, far, "/api/submit").json()["records"]
    assert told["outcomes"] == [{"outcome": "applied", "reason": ""}]
    assert node.shown["yes"] == [node.desk.keys["cy"].id.hex()]


def test_in_a_private_swarm_the_node_itself_votes(desk: Desk, tmp_path: Path) -> None:
    with GovernedNode(tmp_path / "alone", None) as governed:
        asked = {"action": encode(SetSetting(EXTRA.code, 3)).hex()}
        (made,) = trio.run(governed.asked, "propose", asked)
        trio.run(governed.asked, "submit", {"records": [made["signed"]]})
        caller = Caller(api(Asked(governed), Guard(token=TOKEN)), {"x-swarmllm-token": TOKEN})
        got = trio.run(caller.post, "/api/vote", {"id": made["id"], "yes": True})
        assert got.json()["signed_by"] == "this node"
        assert governed.settings.get(EXTRA) == 3


def test_a_proposal_of_a_setting_is_made_and_voted_on(node: Node) -> None:
    asked = {"setting": EXTRA.key, "value": 2, "why": "rounds wait"}
    key = {"key": node.desk.keys["bob"].id.hex(), "passphrase": PASSPHRASE}
    told = node.post(asked | key, path="/api/propose").json()
    assert (told["event"], told["signed_by"]) == ("proposed", "bob")
    assert told["proposal"]["action"]["text"] == "set router.hedging_extra to 2 (experts)"
    assert (told["proposal"]["why"], told["proposal"]["tier_name"]) == (
        "rounds wait",
        "deploy-major",
    )
    assert node.vote(id=told["id"]).json()["proposal"]["needs"] == 2
    far = node.caller(peer="192.0.2.7")
    refused(node.post(asked | key, far, "/api/propose"), 403, "not_here")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"setting": "router.hedging"}, "router.hedging"),
        ({"value": 99}, "can be 0 to "),
        ({"value": -1}, "can be 0 to "),
        ({"value": 10**30}, "value"),
        ({"why": ""}, "why"),
        ({"why": "\u00e9" * 400}, "at most 512 bytes"),
    ],
    ids=str,
)
def test_what_cannot_be_proposed_is_one_sentence(
    node: Node, more: dict[str, object], sentence: str
) -> None:
    asked = {"setting": EXTRA.key, "value": 2, "why": "w", "key": node.body("ann")["key"]} | more
    got = node.post(asked, path="/api/propose")
    assert got.status == 400, got.body
    assert sentence in got.json()["error"]["message"]


# --- who may not ----------------------------------------------------------------------------------


ELSEWHERE: Final[dict[str, dict[str, Any]]] = {
    "another machine": {"peer": "192.0.2.7"},
    "no peer": {"peer": ""},
    "a name that points here": {"host": "node.lan:7337"},
    "an address of another machine": {"host": "192.0.2.1:7337"},
    "a page that may ask for text": {"origin": "https://app.example"},
    "a page beside": {"sec_fetch_site": "same-site", "origin": f"http://{HOST}"},
    "a proxy": {"x_forwarded_for": "192.0.2.7"},
    "another proxy": {"forwarded": "for=192.0.2.7"},
}


@pytest.mark.parametrize("headers", ELSEWHERE.values(), ids=ELSEWHERE)
def test_from_elsewhere_nobody_votes_whatever_he_knows(node: Node, headers: dict[str, Any]) -> None:
    def guard() -> Guard:  # The clock of each run of trio begins elsewhere.
        named = frozenset({"node.lan"}), frozenset({"https://app.example"})
        return Guard(frozenset({HASHED}), *named, TOKEN)

    known = {"x-swarmllm-token": TOKEN, "authorization": f"Bearer {API_KEY}"}
    more = {name.replace("_", "-"): one for name, one in headers.items() if name != "peer"}
    caller = node.caller(guard(), headers=known | more, peer=headers.get("peer", "127.0.0.1"))
    got = node.vote(caller=caller)
    assert got.status == 403
    assert got.json()["error"]["code"] in {"not_here", "origin_not_allowed"}
    assert node.shown["yes"] == []
    assert node.vote(caller=node.caller(guard(), headers=known)).status == 200


@pytest.mark.parametrize("headers", [{}, {"x-swarmllm-token": "wrong"}], ids=str)
def test_without_the_token_nobody_votes(node: Node, headers: dict[str, str]) -> None:
    refused(node.vote(caller=node.caller(headers=headers)), 403, "token_required")
    assert node.shown["yes"] == []


def test_an_api_key_alone_votes_for_nobody(node: Node) -> None:
    keyed = {"authorization": f"Bearer {API_KEY}"}
    caller = node.caller(Guard(frozenset({HASHED}), token=TOKEN), headers=keyed)
    refused(node.vote(caller=caller), 403, "token_required")
    without = node.caller(Guard(frozenset({HASHED}), token=TOKEN))
    assert node.vote(caller=without).status == 401
    assert node.shown["yes"] == []


@pytest.mark.parametrize("host", ["localhost:7337", "[::1]:7337", "127.0.0.9"])
@pytest.mark.parametrize("peer", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_each_address_of_this_machine_is_here(host: str, peer: str) -> None:
    headers = {"host": host, "origin": f"http://{host}", "sec-fetch-site": "same-origin"}
    Guard().check_here(headers, peer)


# --- what makes no sense --------------------------------------------------------------------------


def test_who_is_no_voter_or_has_voted_is_told_before_a_passphrase_is_tried(node: Node) -> None:
    told = refused(node.vote("eve", passphrase="wrong"), 400, "invalid_value")
    assert "is no voter of charter 1" in told
    assert node.vote("ann").status == 200
    told = refused(node.vote("ann", yes=False, passphrase="wrong"), 400, "invalid_value")
    assert "votes are final" in told
    assert len(node.shown["yes"]) == 1
    assert node.shown["double"] == []


def test_a_key_that_is_not_in_the_folder_signs_nothing(node: Node) -> None:
    told = refused(node.vote("cy"), 400, "invalid_value")
    assert "no such key lies in the folder keys" in told
    told = refused(node.post({"id": node.id, "yes": True}), 400, "invalid_value")
    assert "is no voter of charter 1" in told  # The node's own.


def test_a_key_that_others_can_read_is_none_and_the_console_says_so(node: Node) -> None:
    (node.keys / "ann.key").chmod(0o644)
    refused(node.vote("ann"), 400, "invalid_value")


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"id": "ab"}, "id"),
        ({"id": "G" * 64}, "id"),
        ({"yes": "yes"}, "yes"),
        ({"key": "../../etc/passwd"}, "key"),
        ({"passphrase": PASSPHRASE * 100}, "passphrase"),
        ({"passphrase": [PASSPHRASE]}, "passphrase"),
        ({"path": "/x"}, "path"),
    ],
    ids=str,
)
def test_a_field_that_makes_no_sense_is_named(
    node: Node, more: dict[str, object], param: str
) -> None:
    got = node.post(node.body() | more)
    assert got.status == 400
    assert got.json()["error"]["param"] == param
    assert PASSPHRASE.encode() not in got.body
    assert node.shown["yes"] == []


# --- passphrases ----------------------------------------------------------------------------------


def test_a_wrong_passphrase_is_one_sentence_and_few_are_tried(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller, tried = node.caller(), list[str]()
    real = operator_keys.OperatorKey.unseal

    def counted(key: operator_keys.OperatorKey, passphrase: str) -> Any:
        tried.append(passphrase)
        return real(key, passphrase)

    monkeypatch.setattr(operator_keys.OperatorKey, "unseal", counted)

    async def guess() -> list[Got]:
        got = [await caller.post("/api/vote", node.body(passphrase="wrong")) for _ in range(8)]
        return [*got, await caller.post("/api/vote", node.body())]

    *wrong, right = trio.run(guess)
    for one in wrong[:TRIES_MAX]:
        told = refused(one, 403, "wrong_passphrase")
        assert told == "the passphrase does not open the key ann; type it again"
    for one in [*wrong[TRIES_MAX:], right]:
        refused(one, 429, "rate_limit_exceeded")
    assert tried == ["wrong"] * TRIES_MAX
    assert node.shown["yes"] == []


def test_a_further_try_comes_with_time_and_right_ones_cost_none() -> None:
    tries = Tries()
    for _ in range(20):
        tries.check(0.0)
    for _ in range(TRIES_MAX):
        tries.check(0.0)
        tries.failed()
    with pytest.raises(Problem):
        tries.check(TRY_EVERY_S / 2)
    tries.check(TRY_EVERY_S)
    tries.failed()
    with pytest.raises(Problem):
        tries.check(TRY_EVERY_S + 1)


# --- what the console shows -----------------------------------------------------------------------


def test_the_console_names_the_keys_to_this_machine_alone(node: Node) -> None:
    (node.keys / "bob.key").chmod(0o644)
    voting = Voting(node, Guard(), node.keys)

    scope = {"type": "http", "headers": [(b"host", HOST.encode())]}
    here = Request(scope | {"client": ("127.0.0.1", 1)})
    found = trio.run(voting.shown, here)
    assert [one["name"] for one in found["keys"]] == ["ann", "eve"]
    assert "chmod" in found["faults"][0]
    nowhere = {"here": False, "keys": [], "faults": []}
    assert trio.run(voting.shown, Request(scope)) == nowhere
