"""The providers a credential can be for: where they are, how they take a key, and how they want to be asked whether it works.

What a provider *speaks* (dialects, metering) is the gateway's business; a test holds the two lists together. What a person must say beside the
key (a region, a resource, a project) is a `Setting`: validated, not secret, and part of the address, so it changes only together with the key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

Settings = Mapping[str, str]


class Auth(StrEnum):
    HEADER = "header"
    """The key is a header, the same for every call."""
    AWS = "aws"
    """Each call is signed (`workspaces.domain.sigv4`), unless the key is a Bedrock API key, which is a bearer token."""
    GOOGLE = "google"
    """The key is a service account's JSON, exchanged for access tokens (`workspaces.domain.google_keys`)."""


class BadSetting(ValueError):
    """A setting that cannot be used. The message says what to write; `name` is the setting."""

    def __init__(self, message: str, name: str) -> None:
        super().__init__(message)
        self.name = name


@dataclass(frozen=True, slots=True)
class Setting:
    name: str
    title: str
    pattern: str
    """A whole-match regular expression. What it lets through may stand in a host name or a path as it is."""
    hint: str
    required: bool = False
    default: str = ""

    def checked(self, value: object) -> str:
        """The value to keep; empty: the default holds. Raises BadSetting."""
        text = value.strip() if isinstance(value, str) else value
        if text in (None, ""):
            if self.required and not self.default:
                raise BadSetting(f"{self.title} is missing. {self.hint}", self.name)
            return ""
        if not isinstance(text, str) or len(text) > 2_000 or re.fullmatch(self.pattern, text, re.ASCII) is None:
            raise BadSetting(f"{self.title} cannot be used. {self.hint}", self.name)
        return text


def _no_address(settings: Settings) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Access:
    name: str
    title: str
    base_url: str = ""
    """Empty: each credential brings its own, or its settings say."""
    key_optional: bool = False
    key_header: str = "authorization"
    key_prefix: str = "Bearer "
    extra_headers: tuple[tuple[str, str], ...] = ()
    check_path: str = "/models"
    """A cheap GET that only a working key gets 200 from; empty: there is none."""
    key_hint: str = ""
    """How its keys start, for forms."""
    key_help: str = ""
    """What to paste, where it is not simply a key."""
    auth: Auth = Auth.HEADER
    settings: tuple[Setting, ...] = ()
    place: Callable[[Settings], str] = _no_address
    """The host (scheme and name) that the settings say. A credential's own base URL takes its place."""
    prefix: Callable[[Settings], str] = _no_address
    """What stands before every path, after the host that `place` gave or the credential's own base URL."""
    check_place: Callable[[Settings], str] = _no_address
    """Where `check_path` is asked when it is elsewhere."""

    def headers(self, key: str) -> Mapping[str, str]:
        """The request headers that carry the key, where they are the same for every call."""
        own = {self.key_header: self.key_prefix + key} if key and self.auth is Auth.HEADER else {}
        return {**own, **dict(self.extra_headers)}

    def address(self, settings: Settings, own_base_url: str = "") -> str:
        """The base URL of a credential; empty where nobody has said. All parts are validated, and the address is checked again when used."""
        if not self.settings:
            return own_base_url or self.base_url
        full = {setting.name: settings.get(setting.name) or setting.default for setting in self.settings}
        host = own_base_url or self.base_url or self.place(full)
        return host + self.prefix(full) if host else ""

    def check_address(self, settings: Settings, own_base_url: str = "") -> str:
        """The base URL that `check_path` belongs to."""
        elsewhere = "" if own_base_url else self.check_place({**self._defaults, **settings})
        return elsewhere or self.address(settings, own_base_url)

    def checked_settings(self, given: Mapping[str, object]) -> dict[str, str]:
        """The settings to keep, without empty ones. Raises BadSetting."""
        known = {setting.name: setting for setting in self.settings}
        strange = next((name for name in given if name not in known), None)
        if strange is not None:
            raise BadSetting(f"{self.title} has no setting '{str(strange)[:40]}'.", str(strange)[:40])
        checked = {name: setting.checked(given.get(name)) for name, setting in known.items()}
        return {name: value for name, value in checked.items() if value}

    @property
    def _defaults(self) -> dict[str, str]:
        return {setting.name: setting.default for setting in self.settings}


# --- Azure: https://learn.microsoft.com/azure/ai-foundry/openai/api-version-lifecycle (the v1 surface, and before it deployment paths) ----

_AZURE_SETTINGS = (
    Setting(
        "resource", "Resource", r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?",
        "The first part of the endpoint: my-resource in https://my-resource.openai.azure.com.",
    ),
    Setting(
        "deployments", "Deployments", r"[\w.-]{1,64}(?:=[\w.-]{1,64}(?:,\s*[\w.-]{1,64}=[\w.-]{1,64}){0,40})?",
        "Where deployments are not named like their models: gpt-4o=my-4o, gpt-4.1=prod. One name alone: every model is that deployment.",
    ),
    Setting(
        "api_version", "API version", r"20\d\d-\d\d-\d\d(?:-preview)?",
        "Only for resources without the v1 API, like 2024-10-21. Empty: the v1 API.",
    ),
)  # fmt: skip


def _azure_host(settings: Settings) -> str:
    resource = settings.get("resource", "")
    return (
        f"https://{resource}.openai.azure.com" + ("/openai" if settings.get("api_version") else "/openai/v1")
        if resource
        else ""
    )


def deployment_of(model: str, settings: Settings) -> str:
    """The name of Azure's that a model goes by: its deployment."""
    named = settings.get("deployments", "")
    if "=" not in named:
        return named or model
    pairs = (pair.strip().partition("=") for pair in named.split(","))
    return next((deployment for name, _, deployment in pairs if name == model), model)


def model_of(deployment: str, settings: Settings) -> str:
    """The model that a deployment's name stands for; the name itself where nothing says."""
    pairs = (pair.strip().partition("=") for pair in settings.get("deployments", "").split(","))
    return next((model for model, equals, name in pairs if equals and name == deployment), deployment)


# --- Bedrock and Vertex ---------------------------------------------------------------------------------------------------------------------

_AWS_REGION = Setting(
    "region", "Region", r"[a-z]{2}(?:-[a-z]{2,12}){1,3}-\d{1,2}", "Like us-east-1 or eu-central-1.", required=True
)
_GOOGLE_SETTINGS = (
    Setting(
        "project", "Project", r"[a-z][a-z0-9-]{4,28}[a-z0-9]",
        "The project id, like my-project-123. Empty: the project of the service account.",
    ),
    Setting("location", "Location", r"global|us|eu|[a-z]+-[a-z]+\d{1,2}", "global, us, eu, or a region like europe-west4.", default="global"),
)  # fmt: skip


def _bedrock_host(settings: Settings) -> str:
    region = settings.get("region", "")
    return f"https://bedrock-runtime.{region}.amazonaws.com" if region else ""


def _bedrock_control(settings: Settings) -> str:
    region = settings.get("region", "")
    return f"https://bedrock.{region}.amazonaws.com" if region else ""


def _vertex_host(settings: Settings) -> str:
    """Global, the two multi-regions and regions each have a host of their own shape (cloud.google.com/vertex-ai/docs/general/locations)."""
    location = settings.get("location") or "global"
    if location == "global":
        return "https://aiplatform.googleapis.com"
    if location in ("us", "eu"):
        return f"https://aiplatform.{location}.rep.googleapis.com"
    return f"https://{location}-aiplatform.googleapis.com"


def _vertex_prefix(settings: Settings) -> str:
    return f"/v1/projects/{settings.get('project', '')}/locations/{settings.get('location') or 'global'}"


_ACCESS = (
    Access("openai", "OpenAI", "https://api.openai.com/v1", key_hint="sk-"),
    Access(
        "anthropic", "Anthropic", "https://api.anthropic.com/v1", key_header="x-api-key", key_prefix="",
        extra_headers=(("anthropic-version", "2023-06-01"),), key_hint="sk-ant-",
    ),
    Access(
        "gemini", "Google Gemini", "https://generativelanguage.googleapis.com/v1beta", key_header="x-goog-api-key", key_prefix="",
        key_hint="AIza",
    ),
    Access("simulator", "Simulator", key_optional=True),
    Access("openai_compatible", "OpenAI-compatible", key_optional=True),
    Access(
        "azure", "Azure OpenAI", key_header="api-key", key_prefix="", settings=_AZURE_SETTINGS, place=_azure_host,
        key_help="One of the resource's two keys.",
    ),
    Access(
        "bedrock", "AWS Bedrock", auth=Auth.AWS, settings=(_AWS_REGION,), place=_bedrock_host, check_place=_bedrock_control,
        check_path="/foundation-models",
        key_help="A Bedrock API key, or ACCESS_KEY_ID:SECRET_ACCESS_KEY, with :SESSION_TOKEN after it where there is one.",
    ),
    Access(
        "vertex", "Google Vertex AI", auth=Auth.GOOGLE, settings=_GOOGLE_SETTINGS, place=_vertex_host, prefix=_vertex_prefix,
        check_path="", key_help="The JSON of a service account that may call Vertex AI, as it was downloaded.",
    ),
    Access("groq", "Groq", "https://api.groq.com/openai/v1", key_hint="gsk_"),
    Access("mistral", "Mistral", "https://api.mistral.ai/v1"),
    Access("deepseek", "DeepSeek", "https://api.deepseek.com/v1", key_hint="sk-"),
    Access("xai", "xAI", "https://api.x.ai/v1", key_hint="xai-"),
    Access("openrouter", "OpenRouter", "https://openrouter.ai/api/v1", check_path="/key", key_hint="sk-or-"),  # its /models is public
    Access("together", "Together AI", "https://api.together.xyz/v1"),
    Access("fireworks", "Fireworks AI", "https://api.fireworks.ai/inference/v1", key_hint="fw_"),
    Access("perplexity", "Perplexity", "https://api.perplexity.ai", check_path="", key_hint="pplx-"),  # lists no models
    # The compatible API lists no models; the native list is beside it
    Access("cohere", "Cohere", "https://api.cohere.ai/compatibility/v1", check_path="/models", check_place=lambda settings: "https://api.cohere.com/v1"),
    Access("ollama", "Ollama", "http://127.0.0.1:11434/v1", key_optional=True),
)  # fmt: skip

PROVIDERS: dict[str, Access] = {access.name: access for access in _ACCESS}
