from django.apps import AppConfig


class WasteConfig(AppConfig):
    name = "guardrails.waste"
    label = "waste"

    def ready(self) -> None:
        from guardrails.waste import wiring  # it needs the models, which exist only now

        wiring.connect()
