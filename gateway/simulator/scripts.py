"""How the simulator behaves, per request: a named script with options, deterministic from its seed.

Where a script is named, the first that is present wins:
  1. header `X-Sim-Script: drip gap_ms=200`
  2. the last user message contains `[[sim:drip gap_ms=200]]` (cut out before an echo)
  3. body field `metadata.sim: "drip gap_ms=200"`
  4. the model's name: `sim-small:drip,gap_ms=200` or `fake-drip`
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

AbortRule = Literal["stops_now", "stops_after_k", "full"]
ABORT_RULES = ("stops_now", "stops_after_k", "full")


@dataclass(frozen=True, slots=True)
class Script:
    """One behaviour. `usage`, `wire`, `body` and `sse` name variants that `spoil`, `play` and `sse` know."""

    name: str = "ok"
    says: str = ""
    """What it does, for the page."""
    first_ms: int = 0
    """Wait before the first byte of the answer."""
    gap_ms: int = 0
    """Wait between two tokens of a stream."""
    tokens: int = 0
    """Length of the visible answer; 0: the seed decides (16 to 48)."""
    calls: int = 0
    """Tool calls to make when tools are offered; 0: one for each tool, four at most."""
    seed: int = 0
    echo: bool = False
    """Answer with the user's own words."""
    usage: str = "ok"
    wire: str = "ok"
    body: str = "ok"
    sse: str = "ok"
    status: int = 200
    retry_after: str = ""
    location: str = "http://169.254.169.254/latest/meta-data/"
    k: int = 3
    """The chunk after which a stream is broken off; with `stops_after_k`, how many more tokens are billed after an abort."""
    mb: int = 10
    """Megabytes of a huge line or of a bomb once unpacked."""
    bills_on_abort: AbortRule = "stops_now"
    bills_errors: bool = False
    """Whether an error answer costs its input tokens."""
    obeys_max_tokens: bool = True


class BadScript(ValueError):
    """A script or an option that does not exist. The message lists those that do."""


def _scripts(*scripts: Script) -> dict[str, Script]:
    return {script.name: script for script in scripts}


SCRIPTS = _scripts(
    Script("ok", "A plain good answer."),
    Script("echo", "Answers with the user's own words.", echo=True),
    Script("slow", "Waits first_ms (1000) before the first byte.", first_ms=1000),
    Script("drip", "Streams one token each gap_ms (1000).", gap_ms=1000),
    Script("heartbeat", "Streams comments each gap_ms (1000) and never a token.", wire="heartbeat", gap_ms=1000),
    Script("over-max", "Ignores the output limit by k (50) tokens and bills them.", obeys_max_tokens=False, k=50),
    # what the answer says about usage; the invoice always holds the truth
    Script("no-usage", "Leaves usage out.", usage="absent"),
    Script("null-usage", "Says usage: null.", usage="null"),
    Script("usage-every-chunk", "Repeats cumulative usage in every chunk.", usage="every"),
    Script("usage-twice", "Sends the usage chunk twice.", usage="twice"),
    Script("usage-zero", "Says zero tokens.", usage="zero"),
    Script("usage-negative", "Says negative tokens.", usage="negative"),
    Script("usage-float", "Says fractional tokens.", usage="float"),
    Script("usage-string", "Says tokens as strings.", usage="string"),
    Script("usage-over-max", "Says more output than the limit, though it gave less.", usage="over"),
    Script("usage-huge", "Says 10^18 tokens.", usage="huge"),
    # refusals before any output
    Script("500", "500 server error.", status=500),
    Script("502", "502 bad gateway.", status=502),
    Script("503", "503 unavailable.", status=503),
    Script("529", "529 overloaded.", status=529),
    Script("429", "429 without Retry-After.", status=429),
    Script("429-after", "429 with Retry-After: 2.", status=429, retry_after="2"),
    Script("429-absurd", "429 with Retry-After: 1e9.", status=429, retry_after="1000000000"),
    Script("400", "400 invalid request.", status=400),
    Script("401", "401 invalid key.", status=401),
    Script("redirect", "307 to `location` (a metadata address).", status=307),
    # the connection
    Script("rst-before", "Bills, then resets before any header.", wire="rst-before"),
    Script("rst-after", "Resets after k chunks (streams) or half the body.", wire="rst-after"),
    Script("cut", "Closes after k chunks in the middle of a frame, or in the middle of the body.", wire="cut"),
    Script("silent", "Bills in full and never answers.", wire="silent"),
    # bodies
    Script("html", "200 with an HTML page.", body="html"),
    Script("json-error-200", "200 with an error object.", body="json-error"),
    Script("wrong-type", "The right JSON as text/plain.", body="wrong-type"),
    Script("empty-200", "200 with no body.", body="empty"),
    Script("204", "204, no content.", body="no-content", status=204),
    Script("truncated", "200 with half of the JSON, cleanly ended.", body="truncated"),
    Script("gzip", "The right answer, gzipped without being asked.", body="gzip"),
    Script("gzip-bomb", "mb (10240) megabytes of zeros, gzipped.", body="gzip-bomb", mb=10240),
    Script("br-bomb", "mb (10240) megabytes of zeros, brotli.", body="br-bomb", mb=10240),
    # server-sent events
    Script("sse-crlf", "CRLF line ends.", sse="crlf"),
    Script("sse-cr", "CR line ends.", sse="cr"),
    Script("sse-nospace", "No space after the colon.", sse="nospace"),
    Script("sse-multiline", "An event's JSON over several data lines.", sse="multiline"),
    Script("sse-comments", "Comments between events.", sse="comments"),
    Script("sse-no-done", "No [DONE].", sse="no-done"),
    Script("sse-two-dones", "Two [DONE].", sse="two-dones"),
    Script("sse-after-done", "Events after [DONE].", sse="after-done"),
    Script("sse-huge-line", "A padding field of mb (10) megabytes in one line.", sse="huge-line"),
    Script("sse-nul", "NUL bytes in an id field and, escaped, in the text.", sse="nul"),
    Script("sse-split-utf8", "Characters of several bytes, cut apart on the wire.", sse="split-utf8"),
    Script("sse-bytes", "One byte a segment.", sse="bytes"),
    Script("sse-error", "An error event after k chunks, then a clean end.", sse="error"),
)

_OPTIONS = {f.name: f.type for f in fields(Script) if f.name not in {"name", "says"}}
_MARK = re.compile(r"\[\[sim:([^\]\n]{1,200})\]\]")


def parse(text: str, defaults: Mapping[str, Any]) -> Script:
    """`drip gap_ms=200 bills_on_abort=full` -> a script; `defaults` are options it starts from. Raises BadScript."""
    words = re.split(r"[,;\s]+", text.strip())
    name = words.pop(0) if words and "=" not in words[0] else "ok"
    script = SCRIPTS.get(name or "ok")
    if script is None:
        raise BadScript(f"no script named {name!r}; there are: {', '.join(SCRIPTS)}")
    options = {key: value for key, value in defaults.items() if key in _OPTIONS}
    for word in filter(None, words):
        key, _, value = word.partition("=")
        options[key] = _option(key, value)
    return replace(script, **options) if options else script


def _option(key: str, value: str) -> int | bool | str:
    kind = _OPTIONS.get(key)
    if kind == "int" and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    if kind == "bool" and value.lower() in {"1", "0", "true", "false", "yes", "no"}:
        return value.lower() in {"1", "true", "yes"}
    if kind == "AbortRule" and value in ABORT_RULES:
        return value
    if kind == "str":
        return value
    raise BadScript(f"bad option {key}={value}; there are: {', '.join(_OPTIONS)}")


def choose(
    *, header: str, user_text: str, metadata: object, model_script: str, defaults: Mapping[str, Any]
) -> tuple[Script, str]:
    """The script of a request and the user's text without its mark. Raises BadScript."""
    mark = _MARK.search(user_text)
    said = metadata.get("sim") if isinstance(metadata, dict) else None
    text = header or (mark[1] if mark else "") or (said if isinstance(said, str) else "") or model_script
    clean = (user_text[: mark.start()] + user_text[mark.end() :]).strip() if mark else user_text
    if not text and not defaults:
        return SCRIPTS["ok"], clean
    return parse(text, defaults), clean
