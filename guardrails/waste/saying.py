"""How a finding reads: its title, why it is waste, its evidence, and what each lever does. Plain text for pages, mails and the API."""

from __future__ import annotations

from typing import Final, NamedTuple

from billing.views.amounts import show
from guardrails.domain.waste.sorter import DIGEST_OUTPUT, RESENT_MIN, SHORT_OUTPUT, STORM_FAILURES
from guardrails.domain.waste.tally import REST
from guardrails.domain.waste.values import Category
from guardrails.waste.levers import Lever
from guardrails.waste.models import Finding
from workspaces.domain.names import plain

NAMES: Final = {
    Category.FAILURES: "Paid failures and retry storms",
    Category.ABORTED: "Output never read",
    Category.LOOPS: "Runaway loops",
    Category.DUPLICATES: "Duplicate calls",
    Category.OVERKILL: "Model overkill",
    Category.OVERSIZED: "Oversized prompts",
    Category.IDLE_KEYS: "Idle keys",
}

WHY: Final = {
    Category.FAILURES: "These attempts failed and were charged all the same: the provider billed them, or nobody could confirm that it did not.",
    Category.ABORTED: "The client hung up while the answer was being written. The amount is what the output cost, at most: how much of it was read "
    "before is not known.",
    Category.LOOPS: "One session asked far more in an hour than any session here does in a day. The amount is what a limit would have refused.",
    Category.DUPLICATES: "The same question, word for word, was answered less than an hour before. The amount is what the later answers cost.",
    Category.OVERKILL: "A dear model gives short answers here. The amount is what the same tokens would have cost less on the smaller model. Whether "
    "that answers as well is for you to try: the price book knows prices, not quality.",
    Category.OVERSIZED: "Each call of a session sends its whole context again, at the full price. The amount is what the provider's own prompt cache "
    "would have taken off, its writing included.",
    Category.IDLE_KEYS: "Nobody uses this key. It costs nothing and opens a door: whoever finds it can spend with it.",
}  # fmt: skip


class Evidence(NamedTuple):
    name: str
    text: str


class Offer(NamedTuple):
    """A lever as a button: what it is called, and what happens when it is pressed."""

    lever: Lever
    label: str
    says: str


def place(row: Finding) -> str:
    """Where it is: the feature, the model."""
    about = row.about
    if row.category == Category.IDLE_KEYS:
        return plain(row.facts.get("name", ""))
    if row.category == Category.LOOPS:
        return " · ".join(plain(part) for part in (about.feature, about.agent) if part) or "calls without a feature"
    feature = "other places" if about.feature == REST else plain(about.feature) or "calls without a feature"
    return f"{feature} on {plain(about.model)}"


def title(row: Finding) -> str:
    return f"{NAMES[Category(row.category)]}: {place(row)}"


def evidence(row: Finding) -> list[Evidence]:
    """What the ledger says, in the last thirty days."""
    if row.category == Category.IDLE_KEYS:
        return _of_key(row)
    facts = row.facts
    said = [Evidence("Calls concerned", f"{row.calls:,}"), Evidence("They cost", show(row.cost_nano))]
    if row.category == Category.FAILURES:
        said.append(Evidence("Failed attempts, charged or not", f"{facts.get('failed', 0):,}"))
        said.append(Evidence("Of them repeated by the gateway", f"{facts.get('retried', 0):,}"))
        said.append(Evidence(f"Storms ({STORM_FAILURES} failures in ten minutes)", f"{facts.get('storms', 0):,}"))
        said += [Evidence(f"Error {plain(name)}", f"{count:,}") for name, count in facts.get("errors", {}).items()]
    elif row.category == Category.LOOPS:
        said.append(Evidence("Allowed each session an hour", f"{facts.get('allowed_an_hour', 0):,} calls"))
        said += [
            Evidence(f"Session {plain(name)}", f"{count:,} calls beyond") for name, count in facts.get("sessions", {}).items()
        ]  # fmt: skip
    elif row.category == Category.OVERKILL:
        said += _of_models(row)
    elif row.category == Category.OVERSIZED:
        said.append(
            Evidence(f"Tokens sent again (contexts of {RESENT_MIN:,} and more)", f"{facts.get('resent_tokens', 0):,}")
        )
        said.append(Evidence("Of all tokens of these prompts", f"{facts.get('prompt_tokens', 0):,}"))
        said.append(Evidence("Read from the provider's cache", "none"))
    if row.assumed_nano:
        said.append(Evidence("Unconfirmed, at most", show(row.assumed_nano)))
    return said


def _of_models(row: Finding) -> list[Evidence]:
    facts = row.facts
    said = [
        Evidence("Answers here in all", f"{facts.get('answers', 0):,}"),
        Evidence(
            f"Short ones (up to {SHORT_OUTPUT:,} tokens, or {DIGEST_OUTPUT:,} of a prompt four times as long)",
            f"{_percent(row.calls, facts.get('answers', 0))}",
        ),
        Evidence("Tokens of a short answer, on average", f"{facts.get('output_tokens', 0) // max(1, row.calls):,}"),
    ]
    in_use = facts.get("in_use", ())
    for model, cost in facts.get("options", {}).items():
        beside = ", which you use elsewhere" if model in in_use else ""
        saved = row.cost_nano - cost
        said.append(
            Evidence(
                f"On {plain(model)}{beside}",
                f"{show(cost)}, {show(saved)} less ({_percent(saved, row.cost_nano)})",
            )
        )
    return said


def _of_key(row: Finding) -> list[Evidence]:
    used = row.facts.get("last_used_at")
    return [
        Evidence("Last used", used[:10] if used else "never"),
        Evidence("Made", str(row.facts.get("made_at", ""))[:10]),
    ]


def offer(row: Finding, lever: Lever) -> Offer:
    about, facts = row.about, row.facts
    if lever is Lever.REVOKE_KEY:
        return Offer(lever, "Revoke the key", "Calls with it are refused from the next one on, for good.")
    if lever is Lever.LIMIT_SESSIONS:
        limit = f"{facts.get('allowed_an_hour', 0):,}"
        return Offer(
            lever,
            f"Limit each session to {limit} calls an hour",
            "A rate limit on every session of this workspace; further calls get a 429.",
        )
    if lever is Lever.CHEAPER_MODEL:
        proposed = plain(row.done.get("model") or facts.get("proposed", ""))
        return Offer(
            lever, f"Answer {plain(about.model)} with {proposed}",
            f"An alias named {plain(about.model)}: from the next call on every call of this workspace that asks for that model goes to the "
            "cheaper one, whatever its feature, and to the model itself where that fails. Nothing changes in the application, and you can undo it.",
        )  # fmt: skip
    if lever is Lever.FEWER_RETRIES:
        return Offer(
            lever,
            "Stop the gateway's retries",
            "Failed calls are answered at once, in the whole workspace; fallbacks of aliases stay.",
        )
    return Offer(
        lever,
        "I changed my application",
        "What that saves is measured from tomorrow on: waste a call, before and after.",
    )


def _percent(part: int, whole: int) -> str:
    return f"{round(100 * part / whole)}%" if whole else "0%"
