from django.apps import AppConfig


class RoutesConfig(AppConfig):
    name = "workspaces.routes"
    label = "routes"
