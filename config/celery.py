"""Celery: wakes work, never carries money. Each app's `tasks.py` may say how often its tasks run:

    SCHEDULE = {"billing.wake_ledger_writer": 1.0}  # task name -> seconds

and which of them somebody waits for, or nobody (`config.queues`):

    PROMPT = {"signals.tell"}
    SLOW = {"waste.look"}

Messages are JSON and expire after their own period: a worker that was away does not find an hour of ticks waiting.
"""

from __future__ import annotations

import os
import time
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Final

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django
from celery import Celery, shared_task
from celery.signals import beat_embedded_init, worker_process_init, worker_ready
from django.apps import apps
from django.conf import settings
from kombu import Queue
from redis import Redis

from config.fitness import refuse_weak_secrets
from config.queues import DEAF_AFTER_S, LEDGER, PROMPT, SLOW, heartbeat_key
from config.stack.process import die_with_parent

APPS_WITH_TASKS: Final = (
    "workspaces",
    "billing",
    "guardrails",
    "guardrails.signals",
    "guardrails.anomalies",
    "guardrails.waste",
    "gateway",
)
HEARTBEAT_EVERY_S: Final = 5.0


def _configuration() -> dict[str, Any]:
    if settings.PRODUCTION:
        refuse_weak_secrets()
    return {
        "broker_url": settings.BROKER_URL,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        # Longer than any task may run, so that nothing is delivered twice; short enough that what a killed worker held comes back.
        "broker_transport_options": {"visibility_timeout": 600, "socket_keepalive": True, "health_check_interval": 10},
        "task_serializer": "json",
        "result_serializer": "json",
        "accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_default_queue": LEDGER,
        "task_queues": [
            Queue(name, routing_key=name) for name in DEAF_AFTER_S
        ],  # what a worker takes that is not told which
        "task_create_missing_queues": False,
        "task_routes": _routes(),
        "task_soft_time_limit": 240,
        "task_time_limit": 300,
        "worker_prefetch_multiplier": 1,
        "worker_max_tasks_per_child": 10_000,
        "worker_cancel_long_running_tasks_on_connection_loss": True,
        "worker_hijack_root_logger": False,  # Django's LOGGING decides what is logged
        "worker_send_task_events": False,
        "enable_utc": True,
        "timezone": "UTC",
        "beat_max_loop_interval": 1,
        "beat_schedule": _schedule(),
    }


def _declared() -> list[ModuleType]:
    if not apps.models_ready:  # the worker's command line asks for settings before Celery has set Django up
        django.setup()
    names = [f"{app_name}.tasks" for app_name in APPS_WITH_TASKS]
    return [import_module(name) for name in names if find_spec(name)]


def _schedule() -> dict[str, dict[str, Any]]:
    every = {name: seconds for module in _declared() for name, seconds in getattr(module, "SCHEDULE", {}).items()}
    ticks: dict[str, dict[str, Any]] = {
        name: {"task": name, "schedule": seconds, "options": {"expires": max(seconds, 5.0)}}
        for name, seconds in every.items()
    }
    for queue in DEAF_AFTER_S:
        options = {"queue": queue, "expires": HEARTBEAT_EVERY_S}
        ticks[f"config.heartbeat:{queue}"] = {
            "task": "config.heartbeat", "schedule": HEARTBEAT_EVERY_S, "args": [queue], "options": options,
        }  # fmt: skip
    return ticks


def _routes() -> dict[str, dict[str, str]]:
    """Task name -> its queue, where that is not the ledger's."""
    return {
        name: {"queue": queue}
        for module in _declared()
        for word, queue in (("PROMPT", PROMPT), ("SLOW", SLOW))
        for name in getattr(module, word, ())
    }


app = Celery("sluice")
app.add_defaults(_configuration)  # called when first needed: settings and apps are not loaded by importing this module
app.autodiscover_tasks(lambda: list(APPS_WITH_TASKS))


@shared_task(name="config.heartbeat")
def heartbeat(*queues: str) -> None:
    """Prove that a worker still takes messages: a half-dead connection can leave one deaf, and the supervisor restarts it (STACK.md)."""
    with Redis.from_url(settings.BROKER_URL, socket_timeout=5) as client:
        client.mset({heartbeat_key(queue): f"{time.time():.3f}" for queue in queues})


@worker_ready.connect
def _say_ready(**_: Any) -> None:
    heartbeat(*app.amqp.queues.consume_from)


# The worker's own children must not outlive it, even when it is killed.
@worker_process_init.connect
@beat_embedded_init.connect
def _end_with_the_worker(**_: Any) -> None:
    die_with_parent()
