"""The architecture checker finds what it is there to find, and leaves good code in peace."""

from __future__ import annotations

from typing import Final

import pytest

from tests.test_architecture import check

BAD: Final = [
    ("swarmllm.wire.x", "import swarmllm.core.node", "above"),
    ("swarmllm.wire.x", "from swarmllm import core", "above"),
    ("swarmllm.wire.x", "from ..core import node", "above"),
    ("swarmllm.core.x", "from swarmllm.runtime.ports import Engine", "above"),
    ("swarmllm.core.x", "from swarmllm import open_node", "above"),
    ("swarmllm.errors", "from swarmllm.wire import codec", "above"),
    ("swarmllm.messages", "import numpy", "third-party"),
    ("swarmllm.runtime.x", "def f():\n    from swarmllm.adapters import store", "above"),
    ("swarmllm.adapters.x", "from swarmllm.assembly import open_node", "above"),
    ("swarmllm.adapters.x", "from swarmllm.api import server", "above"),
    ("swarmllm.api.x", "from swarmllm.cli import main", "above"),
    ("swarmllm.cli.x", "from swarmllm.elsewhere import y", "no layer"),
    ("swarmllm.core.x", "import time", "pure code imports time"),
    ("swarmllm.core.x", "from datetime import datetime", "pure code imports datetime"),
    ("swarmllm.core.x", "import os.path", "pure code imports os.path"),
    ("swarmllm.core.x", "def f():\n    import asyncio", "pure code imports asyncio"),
    ("swarmllm.core.x", "import logging", "pure code imports logging"),
    ("swarmllm.core.x", "import secrets", "pure code imports secrets"),
    ("swarmllm.wire.x", "import socket", "pure code imports socket"),
    ("swarmllm.wire.x", "import trio", "third-party trio"),
    ("swarmllm.wire.x", "from cryptography import x509", "third-party cryptography"),
    ("swarmllm.runtime.x", "import libp2p", "third-party libp2p"),
    ("swarmllm.assembly", "import rich", "third-party rich"),
    ("swarmllm.core.x", "import random\nx = random.random()", "random.random"),
    ("swarmllm.core.x", "import random\nf = random.shuffle", "random.shuffle"),
    ("swarmllm.core.x", "import random\nx = random.Random()", "without a seed"),
    ("swarmllm.core.x", "import random as r", "under a name"),
    ("swarmllm.core.x", "from random import choice", "global randomness"),
    ("swarmllm.core.x", "import numpy as np\nx = np.random.rand()", "numpy"),
    ("swarmllm.core.x", "from numpy import random", "numpy"),
    ("swarmllm.core.x", "from numpy.random import default_rng", "numpy"),
    ("swarmllm.core.x", "async def f(): pass", "async"),
    ("swarmllm.core.x", "x = (y async for y in z)", "async"),
    ("swarmllm.wire.x", "print(1)", "calls print"),
    ("swarmllm.core.x", "open('x')", "calls open"),
    ("swarmllm.runtime.x", "from swarmllm.testing import world", "only tests and sims"),
    ("swarmllm.cli.join", "from swarmllm.testing.proxy import Proxy", "only tests and sims"),
    ("swarmllm.cli.bench", "from swarmllm.testing.tabletop import Tabletop", "only tests and sims"),
    ("swarmllm.testing.x", "from swarmllm.cli import main", "testing may not"),
    ("swarmllm", "from swarmllm.runtime.config import Config", "only inside functions"),
    ("swarmllm", "def f():\n    from swarmllm.cli import main", "above"),
    ("swarmllm.sims.churn", "from swarmllm.runtime import driver", "sims know"),
    ("swarmllm.sims.frame.command", "from swarmllm.cli.output import people", "sims know"),
    ("swarmllm.sims.churn", "import trio", "third-party trio"),
    (
        "swarmllm.cli.bench",
        "def f():\n    from swarmllm.sims.frame import command",
        "only swarmllm.cli.simulate",
    ),
    ("swarmllm.testing.x", "import swarmllm.sims.sessions", "only swarmllm.cli.simulate"),
    ("swarmllm.sims.churn", "from sims import study", "imported twice"),
    ("swarmllm.cli.simulate", "import sims.study", "imported twice"),
    ("swarmllm.cli.x", "try:\n    f()\nexcept Exception:\n    pass", "swallowed"),
    ("tests.x", "try:\n    f()\nexcept:\n    ...", "swallowed"),
    (
        "swarmllm.adapters.x",
        (
            "for x in y:\n"
            "    try:\n"
            "        f()\n"
            "    except (OSError, BaseException):\n"
            "        continue"
        ),
        "swallowed",
    ),
    ("swarmllm.adapters.x", "with contextlib.suppress(Exception):\n    f()", "swallowed"),
    ("swarmllm.cli.x", "def f():\n" + "    g()\n" * 60, "f has 61 lines"),
    ("tests.x", "class A:\n    async def f(self):\n" + "        g()\n" * 60, "f has 61 lines"),
    ("swarmllm.cli.x", "x = 1\n" * 601, "601 lines"),
]

GOOD: Final = [
    (
        "swarmllm.wire.x",
        (
            "import struct, math, hashlib\n"
            "import numpy as np\n"
            "import msgpack\n"
            "from swarmllm import errors"
        ),
    ),
    (
        "swarmllm.core.x",
        (
            "from __future__ import annotations\n"
            "import random\n"
            "def f(rng: random.Random): return random.Random(1)"
        ),
    ),
    ("swarmllm.core.x", "from swarmllm.wire.sparse import SparseList\nfrom .events import Send"),
    (
        "swarmllm.runtime.x",
        (
            "import time, os\n"
            "import trio\n"
            "from swarmllm.core.node import Node\n"
            "async def f(): print(await g())"
        ),
    ),
    ("swarmllm.adapters.x", "import libp2p\nfrom swarmllm.runtime.ports import Network"),
    ("swarmllm.assembly", "import trio\nfrom swarmllm.adapters.store import SqliteStore"),
    (
        "swarmllm",
        (
            "from swarmllm.errors import SwarmError\n"
            "def f():\n"
            "    from swarmllm.assembly import open_node"
        ),
    ),
    (
        "swarmllm",
        (
            "from typing import TYPE_CHECKING\n"
            "if TYPE_CHECKING:\n"
            "    from swarmllm.assembly import open_node"
        ),
    ),
    (
        "swarmllm.cli.bench",
        "from swarmllm.testing.proxy import Proxy\nimport rich\nfrom swarmllm import open_node",
    ),
    ("swarmllm.cli.demo", "from swarmllm.testing import proxy"),
    ("swarmllm.testing.x", "from swarmllm.runtime.ports import Store\nimport trio"),
    (
        "swarmllm.sims.churn",
        (
            "import matplotlib\n"
            "from swarmllm.core import router\n"
            "from swarmllm.testing import world\n"
            "from swarmllm.sims import study"
        ),
    ),
    ("tests.x", "import pytest\nfrom swarmllm.testing import world\nimport time"),
    (
        "swarmllm.cli.x",
        (
            "try:\n"
            "    f()\n"
            "except OSError:\n"
            "    pass\n"
            "try:\n"
            "    f()\n"
            "except Exception as e:\n"
            "    log(e)"
        ),
    ),
    ("swarmllm.cli.x", "def f():\n" + "    g()\n" * 59),
    ("swarmllm.cli.x", "x = 1\n" * 400),
]


@pytest.mark.parametrize(("module", "source", "says"), BAD, ids=lambda value: value[:50])
def test_bad_code_is_found_and_named(module: str, source: str, says: str) -> None:
    wrong = check(source, module, is_package=module == "swarmllm")
    assert len(wrong) == 1, wrong
    assert says in wrong[0]


@pytest.mark.parametrize(("module", "source"), GOOD, ids=lambda value: value[:50])
def test_good_code_is_left_in_peace(module: str, source: str) -> None:
    assert check(source, module, is_package=module == "swarmllm") == []
