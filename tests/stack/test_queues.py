"""Who waits for whom: nothing slow may stand before what somebody waits for."""

from __future__ import annotations

from config.celery import app
from config.queues import DEAF_AFTER_S, LEDGER, PROMPT, SLOW
from config.stack import workers


def queue_of(task: str) -> str:
    return app.amqp.router.route({}, task)["queue"].name


def ticks() -> set[str]:
    app.loader.import_default_modules()
    return {tick["task"] for tick in app.conf.beat_schedule.values()} - {"config.heartbeat"}


def test_every_task_that_beat_wakes_exists_and_has_a_worker_of_its_own_kind() -> None:
    assert ticks() <= set(app.tasks)
    assert {queue_of(name) for name in ticks()} == set(DEAF_AFTER_S)
    assert {role.queue for role in workers.ROLES} == set(DEAF_AFTER_S)
    routed = set(app.conf.task_routes)
    assert routed <= set(app.tasks), "a task that is routed and does not exist was renamed"


def test_crossings_and_their_mails_wait_for_no_ledger_and_no_look() -> None:
    assert {queue_of(name) for name in ("signals.tell", "signals.send_mail", "anomalies.watch")} == {PROMPT}
    assert queue_of("billing.write_ledger") == LEDGER
    for slow in ("waste.look", "billing.pack_rollups", "billing.forget_calls", "anomalies.look", "signals.weekly"):
        assert queue_of(slow) == SLOW


def test_each_kind_of_prompt_task_has_a_thread_whatever_the_others_do() -> None:
    kinds = [name for name in app.conf.task_routes if queue_of(name) == PROMPT]
    role = next(role for role in workers.ROLES if role.queue == PROMPT)
    threads = next(int(word.partition("=")[2]) for word in role.words if word.startswith("--concurrency"))
    assert threads > len(kinds)


def test_a_heartbeat_goes_to_every_queue() -> None:
    beats = [tick for tick in app.conf.beat_schedule.values() if tick["task"] == "config.heartbeat"]
    assert {tick["options"]["queue"] for tick in beats} == set(DEAF_AFTER_S) == {tick["args"][0] for tick in beats}


def test_a_worker_that_is_told_nothing_takes_messages_of_every_queue() -> None:
    assert set(app.amqp.queues.consume_from) == set(DEAF_AFTER_S)
