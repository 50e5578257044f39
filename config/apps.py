"""What Django loads of the wiring."""

from __future__ import annotations

from importlib import import_module

from django.apps import AppConfig


class Wiring(AppConfig):
    """Names the Celery application in every process that runs Django, so that each task is sent to our broker, whoever sends it. What runs
    without Django (`make up` itself, the inbox, the simulator) starts two seconds sooner without it."""

    name = "config"

    def ready(self) -> None:
        import_module("config.celery")
