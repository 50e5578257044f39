from django.apps import AppConfig


class VaultConfig(AppConfig):
    name = "workspaces.vault"
    label = "vault"
