from django.apps import AppConfig


class DirectoryConfig(AppConfig):
    name = "workspaces.directory"
    label = "directory"
