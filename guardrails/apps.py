from django.apps import AppConfig


class GuardrailsConfig(AppConfig):
    name = "guardrails"

    def ready(self) -> None:
        # they need the models, which exist only now
        from guardrails import calendars, checks, member_caps, overview, pushes

        checks.register()
        pushes.listen()
        calendars.listen()
        overview.register()
        member_caps.register()
