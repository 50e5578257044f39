"""OpenAI chat completions asked of Anthropic's and Gemini's models: pure functions and state machines on plain values.

What is billed is the provider's own payload, read before any of this. Cache markers, thinking and thought signatures that a client sends
pass on; none is invented (BILLING.md, Translation). What the other API has no word for, and would change the answer or the bill, is refused;
what only tunes (seeds, penalties, identifiers) is left out.
"""
