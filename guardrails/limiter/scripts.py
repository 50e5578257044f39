"""The Lua scripts, named by the hash of their text.

Why not a Redis Function library: a script that is called by its hash needs no deployment step, leaves nothing on the server to clean
up, survives FLUSHALL, failover and a swapped-in old AOF alike (NOSCRIPT answers are followed by the text once per server), and an old and a new
release run side by side because their hashes differ. Every call names one key of the partition, so Redis Cluster routes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

FOLDER = Path(__file__).parent / "lua"
MAY_EXCEED_MEMORY = "#!lua flags=allow-oom"
NEEDS_MEMORY = "#!lua"


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    text: str
    sha: str

    @classmethod
    def load(cls, name: str, *parts: str, flags: str = MAY_EXCEED_MEMORY, folder: Path = FOLDER) -> Script:
        """The last part is the script itself; what it shares between its calls is written when it ends (common.lua, "flush")."""
        *library, main = ((folder / f"{part}.lua").read_text(encoding="utf-8") for part in parts)
        text = "\n".join([flags, *library, "return surely(function()", main, "end)"])
        return cls(name, text, sha1(text.encode(), usedforsecurity=False).hexdigest())


ADMIT = Script.load("admit", "common", "rates", "admit", flags=NEEDS_MEMORY)
PACE = Script.load("pace", "common", "rates", "pace", flags=NEEDS_MEMORY)
FINISH = Script.load("finish", "common", "release", "finish")
RENEW = Script.load("renew", "common", "renew")
ADOPT = Script.load("adopt", "common", "adopt")
HAND_IN = Script.load("hand_in", "common", "hand_in")
LOOK = Script.load("look", "common", "look")
SWEEP = Script.load("sweep", "common", "release", "sweep")
RERATE = Script.load("rerate", "common", "rerate", flags=NEEDS_MEMORY)
SPLIT = Script.load("split", "common", "release", "split")
CONTROL = Script.load("control", "common", "control")
