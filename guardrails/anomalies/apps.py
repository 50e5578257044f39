from django.apps import AppConfig


class AnomaliesConfig(AppConfig):
    name = "guardrails.anomalies"
    label = "anomalies"

    def ready(self) -> None:
        from guardrails.anomalies import wiring  # it needs the models, which exist only now

        wiring.connect()
