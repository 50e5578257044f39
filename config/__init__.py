"""Wiring. Importing it names the Celery application, so that every task is sent to our broker, whoever sends it."""

from config.celery import app as celery_app

__all__ = ["celery_app"]
