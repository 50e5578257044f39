"""A provider of our own, to try the product without a key and to test it without mercy. `python -m gateway.simulator`.

It owns its prices, its token counts and its invoice, and imports nothing of the rest of the project: books that shared code
with ours could not disagree with them. It speaks the OpenAI, Anthropic and Gemini dialects and misbehaves on request
(`scripts.py`). It is one asyncio process on raw sockets, because half of what it does to a connection no ASGI server allows.
"""
