"""The page a person sees who opens the simulator in a browser."""

from __future__ import annotations

from html import escape

from gateway.simulator.catalogue import MODELS, NANO_PER_USD
from gateway.simulator.invoice import Totals
from gateway.simulator.scripts import SCRIPTS

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Simulator provider</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; margin: 1rem 0; }}
th, td {{ text-align: left; padding: .3rem .75rem .3rem 0; border-bottom: 1px solid #8884; vertical-align: top; }}
.n {{ text-align: right; font-variant-numeric: tabular-nums; }}
code {{ font-family: ui-monospace, monospace; font-size: .92em; }}
</style>
</head>
<body>
<h1>Simulator provider</h1>
<p>A stand-in for an AI provider, for first calls without a key and for tests. It answers in the dialects of OpenAI
(<code>{prefix}/v1</code>), Anthropic (<code>{prefix}</code>) and Gemini (<code>{prefix}/v1beta</code>), invents its answers,
counts a token for every four bytes and keeps an invoice of its own. No real money moves. Any key will do, or none; a key that
starts with <code>sim-bad</code> is refused.</p>
<h2>Invoice so far</h2>
<table>
<tr><th>Requests</th><td class="n">{requests}</td></tr>
<tr><th>Billed responses</th><td class="n">{billed}</td></tr>
<tr><th>Input tokens</th><td class="n">{input_tokens}</td></tr>
<tr><th>Output tokens</th><td class="n">{output_tokens}</td></tr>
<tr><th>Total</th><td class="n">${usd}</td></tr>
</table>
<p>The same as JSON: <a href="{prefix}/invoice.json">invoice.json</a>.</p>
<h2>Models</h2>
<table><tr><th>Model</th><th class="n">Input / M</th><th class="n">Cached / M</th><th class="n">Output / M</th></tr>{models}</table>
<h2>Scripts</h2>
<p>Name one as <code>sim-small:drip</code>, as <code>[[sim:drip gap_ms=200]]</code> in the user's message, or in
<code>metadata.sim</code>.</p>
<table><tr><th>Script</th><th>What it does</th></tr>{scripts}</table>
</body>
</html>
"""


def page(prefix: str, totals: Totals) -> str:
    models = "".join(
        f'<tr><td><code>{escape(model.name)}</code></td><td class="n">${_usd(model.input_rate)}</td>'
        f'<td class="n">${_usd(model.cached_rate)}</td><td class="n">${_usd(model.output_rate)}</td></tr>'
        for model in MODELS.values()
    )
    scripts = "".join(
        f"<tr><td><code>{escape(script.name)}</code></td><td>{escape(script.says)}</td></tr>"
        for script in SCRIPTS.values()
    )
    return _PAGE.format(
        prefix=escape(prefix),
        requests=f"{totals.requests:,}",
        billed=f"{totals.billed:,}",
        input_tokens=f"{totals.input_tokens:,}",
        output_tokens=f"{totals.output_tokens:,}",
        usd=_usd(totals.cost_nano),
        models=models,
        scripts=scripts,
    )


def _usd(nano: int) -> str:
    whole, rest = divmod(nano, NANO_PER_USD)
    return f"{whole:,}." + f"{rest:09d}".rstrip("0").ljust(2, "0")
