"""Ready-to-paste code: the one line that changes, in the five places people change it. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Snippet:
    slug: str
    title: str
    text: str


PLACEHOLDER = "slk_…"

_PYTHON = """\
# pip install openai
from openai import OpenAI

client = OpenAI(
    base_url="{base_url}",
    api_key="{key}",
)

answer = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Say hello in five words."}}],
    extra_headers={{"Sluice-Customer": "acme", "Sluice-Feature": "hello"}},
)
print(answer.choices[0].message.content)
"""

_TYPESCRIPT = """\
// npm install openai
import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{base_url}",
  apiKey: "{key}",
}});

const answer = await client.chat.completions.create(
  {{ model: "{model}", messages: [{{ role: "user", content: "Say hello in five words." }}] }},
  {{ headers: {{ "Sluice-Customer": "acme", "Sluice-Feature": "hello" }} }},
);
console.log(answer.choices[0].message.content);
"""

_CURL = """\
curl {base_url}/chat/completions \\
  -H "Authorization: Bearer {key}" \\
  -H "Content-Type: application/json" \\
  -H "Sluice-Customer: acme" \\
  -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello in five words."}}]}}'
"""

_LANGCHAIN = """\
# pip install langchain-openai
from langchain_openai import ChatOpenAI

llm = ChatOpenAI(
    model="{model}",
    base_url="{base_url}",
    api_key="{key}",
    default_headers={{"Sluice-Customer": "acme", "Sluice-Feature": "hello"}},
)
print(llm.invoke("Say hello in five words.").content)
"""

_VERCEL = """\
// npm install ai @ai-sdk/openai-compatible
import {{ createOpenAICompatible }} from "@ai-sdk/openai-compatible";
import {{ generateText }} from "ai";

const sluice = createOpenAICompatible({{
  name: "sluice",
  baseURL: "{base_url}",
  apiKey: "{key}",
  headers: {{ "Sluice-Customer": "acme", "Sluice-Feature": "hello" }},
  includeUsage: true,
}});

const {{ text }} = await generateText({{
  model: sluice("{model}"),
  prompt: "Say hello in five words.",
}});
console.log(text);
"""

_ALL = (
    ("python", "Python", _PYTHON),
    ("typescript", "TypeScript", _TYPESCRIPT),
    ("curl", "curl", _CURL),
    ("langchain", "LangChain", _LANGCHAIN),
    ("vercel", "Vercel AI SDK", _VERCEL),
)


def snippets(*, base_url: str, key: str = PLACEHOLDER, model: str) -> list[Snippet]:
    """The snippets with the values filled in. `model` must be safe to paste into a string literal: see `pasteable`."""
    return [
        Snippet(slug, title, text.format(base_url=base_url, key=key, model=pasteable(model)).rstrip("\n"))
        for slug, title, text in _ALL
    ]


def pasteable(model: str) -> str:
    """A model's name without anything that could end a string literal or a shell word."""
    return "".join(letter for letter in model if letter.isalnum() or letter in "-_./:@")
