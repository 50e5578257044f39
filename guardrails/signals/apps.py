from django.apps import AppConfig


class SignalsConfig(AppConfig):
    name = "guardrails.signals"
    label = "signals"

    def ready(self) -> None:
        from guardrails.signals import wiring  # it needs the models, which exist only now

        wiring.connect()
