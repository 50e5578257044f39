from django.apps import AppConfig


class GuardrailsConfig(AppConfig):
    name = "guardrails"

    def ready(self) -> None:
        from guardrails import calendars, checks, overview, pushes  # they need the models, which exist only now

        checks.register()
        pushes.listen()
        calendars.listen()
        overview.register()
