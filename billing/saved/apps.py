"""The app of what a workspace keeps of its cost questions."""

from django.apps import AppConfig


class SavedConfig(AppConfig):
    name = "billing.saved"
    label = "saved"
