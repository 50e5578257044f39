"""Calls in order of time -> waste by category and place, each call in one category at most. Memory is bounded by places and by the last hour."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from billing.domain.book import PriceBook
from guardrails.domain.waste import pricing
from guardrails.domain.waste.tally import MOST_NAMED, Answers, Failures, Loop, Sum, Tally, at, count
from guardrails.domain.waste.values import Call, Category, Choice, Found, Promise, Saved, Subject

HOUR_MS: Final = 3_600_000
WINDOW_MS: Final = HOUR_MS
"""The same question again within this long of the last time is a duplicate. Also how far before its day a look begins to read."""
LOOP_CALLS: Final = 120
"""Calls an hour of one session that no conversation needs."""
STORM_MS: Final = 600_000
STORM_FAILURES: Final = 20
"""So many failed attempts at one place within ten minutes are a storm."""
SHORT_OUTPUT: Final = 300
"""Tokens of an answer that is short whatever it was made from: a reply, a label, a decision."""
DIGEST_OUTPUT: Final = 1_000
DIGEST_SHARE: Final = 4
"""An answer of up to so many tokens that is at most one part in so many of its prompt is a digest of it: a summary, an extraction."""
SIMPLE_SHARE: Final = (9, 10)
"""Of the answers at a place, how many must be short for a cheaper model to be offered."""
RESENT_MIN: Final = 2_048
"""Tokens of context below which providers cache nothing, or nothing that matters."""
RESENT_WITHIN_MS: Final = 300_000
"""How long providers keep a prompt in their cache without being asked to."""
OUTPUT_SHARE: Final = 5
"""A prompt is oversized when its answer is at most one part in so many of it."""

MOST_SESSIONS: Final = 50_000
MOST_FINGERPRINTS: Final = 500_000

Choices = Callable[[str, str], tuple[Choice, ...]]
"""(provider, model) -> the cheaper models that are allowed, the proposed one first."""


@dataclass(slots=True)
class _Session:
    full_at_ms: int = 0
    """GCRA's theoretical arrival time, as the gate's own rate limits compute it."""
    prompt: int = 0
    at_ms: int = 0


class Sorter:
    """Takes calls oldest first; `found` and `saved` at the end."""

    def __init__(
        self,
        book: PriceBook,
        choices: Choices,
        *,
        since_ms: int = 0,
        session_calls_an_hour: int = LOOP_CALLS,
        promises: Iterable[Promise] = (),
        tally: Tally | None = None,
    ) -> None:
        """`since_ms`: calls before it are remembered and not counted. `session_calls_an_hour`: what a session may ask before it is a loop.
        `tally`: what was counted before, to go on from."""
        self._book, self._choices = book, choices
        self._since_ms = since_ms
        self._allowed = session_calls_an_hour
        self._interval_ms = HOUR_MS // session_calls_an_hour
        self._promises = {(one.provider, one.model, one.feature): one for one in promises}
        self._seen: OrderedDict[int, tuple[int, str]] = OrderedDict()
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self.tally = tally or Tally()

    def take(self, call: Call) -> None:
        session = self._session(call)
        loops = session is not None and self._over_its_limit(session, call.at_ms)
        again = self._asked_before(call)
        resent = self._resent(session, call)
        if call.at_ms < self._since_ms:
            return
        self.tally.calls += 1
        self.tally.cost_nano += call.cost_nano
        self._keep_promise(call)
        place = Subject(feature=call.feature, provider=call.provider, model=call.model)
        if call.failed:
            self._fail(call, place)
        elif call.cost_nano <= 0:
            return
        elif call.hung_up:
            unread = pricing.output_nano(self._book, call.provider, call.model, call.at_ms, call.usage, call.cost_nano)
            at(self.tally.aborted, place, Sum).add(call, unread)
        elif loops:
            loop = at(self.tally.loops, Subject(feature=call.feature, agent=call.agent), Loop)
            loop.add(call, call.cost_nano)
            count(loop.sessions, call.session)
        elif again:
            at(self.tally.duplicates, place, Sum).add(call, call.cost_nano)
        else:
            self._answer(call, place, resent)

    def found(self) -> list[Found]:
        found = [one for place, group in self.tally.failures.items() for one in _failures(place, group)]
        found += [group.found(Category.ABORTED, place) for place, group in self.tally.aborted.items()]
        for place, loop in self.tally.loops.items():
            found.append(loop.found(
                Category.LOOPS, place, sessions=dict(loop.sessions.most_common(MOST_NAMED)), allowed_an_hour=self._allowed,
            ))  # fmt: skip
        found += [group.found(Category.DUPLICATES, place) for place, group in self.tally.duplicates.items()]
        for place, answers in self.tally.answers.items():
            found += self._of_answers(place, answers)
        return found

    # --- Remembering --------------------------------------------------------------------------------------------------
    def _session(self, call: Call) -> _Session | None:
        if not call.session:
            return None
        known = self._sessions.get(call.session)
        if known is None:
            known = self._sessions[call.session] = _Session()
            if len(self._sessions) > MOST_SESSIONS:
                self._sessions.popitem(last=False)
        else:
            self._sessions.move_to_end(call.session)
        return known

    def _over_its_limit(self, session: _Session, at_ms: int) -> bool:
        """Whether a limit of so many calls an hour would have refused it. What is refused does not count against the limit."""
        after = max(session.full_at_ms, at_ms) + self._interval_ms
        if after - at_ms > self._interval_ms * self._allowed:
            return True
        session.full_at_ms = after
        return False

    def _asked_before(self, call: Call) -> bool:
        """The same question was answered, and paid for, a short while ago, in another call."""
        if call.fingerprint is None or call.failed or call.hung_up or call.cost_nano <= 0:
            return False
        while self._seen:
            oldest, (at_ms, _) = next(iter(self._seen.items()))
            if call.at_ms - at_ms <= WINDOW_MS and len(self._seen) < MOST_FINGERPRINTS:
                break
            del self._seen[oldest]
        before = self._seen.pop(call.fingerprint, None)
        self._seen[call.fingerprint] = (call.at_ms, call.call_id)
        return before is not None and before[1] != call.call_id

    @staticmethod
    def _resent(session: _Session | None, call: Call) -> int:
        """Tokens of the prompt that the session's last call had sent already: a prompt that only grows is the last one and more."""
        if session is None or call.failed:
            return 0
        before, before_ms = session.prompt, session.at_ms
        session.prompt, session.at_ms = call.prompt_tokens, call.at_ms
        grew = RESENT_MIN <= before <= call.prompt_tokens and call.at_ms - before_ms <= RESENT_WITHIN_MS
        uncached = call.usage.buckets.get("input_uncached", 0) == call.prompt_tokens
        return before if grew and uncached and call.output_tokens * OUTPUT_SHARE <= call.prompt_tokens else 0

    def _keep_promise(self, call: Call) -> None:
        promise = self._promises.get((call.provider, call.model_requested, call.feature)) if self._promises else None
        if promise is None or call.at_ms < promise.from_ms or call.failed or call.cost_nano <= 0:
            return
        before = pricing.priced(self._book, call.provider, promise.model, call.at_ms, call.usage)
        if before is not None:
            saved = self.tally.saved.setdefault(promise.finding, Saved())
            saved.calls += 1
            saved.cost_nano += call.cost_nano
            saved.would_have_nano += before

    # --- Counting -----------------------------------------------------------------------------------------------------
    def _fail(self, call: Call, place: Subject) -> None:
        group = at(self.tally.failures, place, Failures)
        group.failed += 1
        group.retried += call.attempt > 1
        group.by_time[call.at_ms // STORM_MS] += 1
        count(group.errors, call.error or "failed")
        if call.cost_nano > 0:
            group.add(call, call.cost_nano)

    def _answer(self, call: Call, place: Subject, resent: int) -> None:
        if not call.output_tokens:
            return
        answers = at(self.tally.answers, place, Answers)
        answers.calls += 1
        simple = _is_simple(call)
        if simple:
            self._offer(call, answers)
        if resent:
            cached = pricing.with_cache(self._book, call.provider, call.model, call.at_ms, call.usage, resent)
            if cached is not None:
                for group in (answers.resent,) if simple else (answers.resent, answers.resent_not_simple):
                    group.add(call, call.cost_nano - cached)
                answers.resent_tokens += resent
                answers.prompt_tokens += call.prompt_tokens

    def _offer(self, call: Call, answers: Answers) -> None:
        offered = self.tally.offered.get((call.provider, call.model))
        if offered is None:
            offered = self.tally.offered[call.provider, call.model] = self._choices(call.provider, call.model)
        waste = 0
        for place, choice in enumerate(offered):
            cost = pricing.priced(self._book, call.provider, choice.model, call.at_ms, call.usage)
            if cost is None:
                answers.unpriced.add(choice.model)
                continue
            answers.by_model[choice.model] = answers.by_model.get(choice.model, 0) + cost
            if place == 0:
                waste = call.cost_nano - cost
        answers.simple.add(call, waste)
        answers.simple_output += call.output_tokens

    def _of_answers(self, place: Subject, answers: Answers) -> Iterable[Found]:
        """Either the short answers count as overkill, and the others' prompts as oversized; or everybody's prompts do."""
        offered = [
            choice for choice in self.tally.offered.get((place.provider, place.model), ()) if choice.model not in answers.unpriced
        ]  # fmt: skip
        resent = answers.resent
        enough, of = SIMPLE_SHARE
        if offered and answers.simple.calls * of >= answers.calls * enough:
            proposed = offered[0].model
            answers.simple.waste_nano = answers.simple.cost_nano - answers.by_model[proposed]
            if answers.simple.waste_nano > 0:
                yield answers.simple.found(
                    Category.OVERKILL, place, proposed=proposed, options={one.model: answers.by_model[one.model] for one in offered},
                    in_use=[one.model for one in offered if one.in_use], answers=answers.calls, output_tokens=answers.simple_output,
                )  # fmt: skip
                resent = answers.resent_not_simple
        if resent.calls and resent.waste_nano > 0:
            yield resent.found(
                Category.OVERSIZED, place, resent_tokens=answers.resent_tokens, prompt_tokens=answers.prompt_tokens
            )


def _is_simple(call: Call) -> bool:
    """A short text, of text, without a tool of the provider's: what smaller models are made for."""
    short = call.output_tokens <= SHORT_OUTPUT or (
        call.output_tokens <= DIGEST_OUTPUT and call.output_tokens * DIGEST_SHARE <= call.prompt_tokens
    )
    return short and not call.usage.fees and call.usage.buckets.keys() <= pricing.PLAIN_TEXT


def _failures(place: Subject, group: Failures) -> Iterable[Found]:
    storms = sum(1 for count in group.by_time.values() if count >= STORM_FAILURES)
    if group.calls or storms:
        yield group.found(
            Category.FAILURES, place, failed=group.failed, retried=group.retried, storms=storms,
            errors=dict(group.errors.most_common(MOST_NAMED)),
        )  # fmt: skip
