"""The OpenAI dialect: embeddings. Unit vectors that depend on the text alone."""

from __future__ import annotations

import base64
import hashlib
import math
import random
import struct
from typing import Any

from gateway.simulator import tokens
from gateway.simulator.catalogue import Model
from gateway.simulator.dialect import Reading, Refused, body_object, known_model, whole_number
from gateway.simulator.scripts import Script

DIMENSIONS = 256
MAX_INPUTS = 2048


def read(raw: bytes, reading: Reading) -> tuple[Model, Script, list[bytes], dict[str, Any], int]:
    """An embeddings request -> model, script, inputs, the body and the input tokens."""
    body = body_object(raw)
    model, model_script = known_model(body.get("model"), embeds=True)
    given = body.get("input")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise Refused(400, f"'input' must hold from 1 to {MAX_INPUTS} items.", param="input")
    texts: list[bytes] = []
    counted = 0
    for one in inputs:
        if isinstance(one, str) and one:
            texts.append(one.encode("utf-8", "surrogatepass"))
            counted += tokens.count(len(texts[-1]))
        elif isinstance(one, list) and one and all(type(token) is int and token >= 0 for token in one):
            texts.append(repr(one).encode())
            counted += len(one)
        else:
            raise Refused(400, "'$.input' is invalid: a string, token ids, or a list of them.", param="input")
    script, _ = reading.script("", body.get("metadata"), model_script)
    if body.get("encoding_format") not in (None, "float", "base64"):
        raise Refused(400, "'encoding_format' must be float or base64.", param="encoding_format")
    whole_number(body, "dimensions", low=1, high=3072)
    return model, script, texts, body, counted


def answer(model: Model, texts: list[bytes], body: dict[str, Any], counted: int) -> dict[str, Any]:
    size = body.get("dimensions") or DIMENSIONS
    rows = []
    for index, text in enumerate(texts):
        numbers = vector(text, size)
        packed = base64.b64encode(struct.pack(f"<{size}f", *numbers)).decode()
        rows.append(
            {
                "object": "embedding",
                "index": index,
                "embedding": packed if body.get("encoding_format") == "base64" else numbers,
            }
        )
    usage = {"prompt_tokens": counted, "total_tokens": counted}
    return {"object": "list", "data": rows, "model": model.name, "usage": usage}


def vector(text: bytes, size: int) -> list[float]:
    rng = random.Random(hashlib.blake2b(text, digest_size=16).digest())
    raw = [rng.gauss(0, 1) for _ in range(size)]
    length = math.sqrt(sum(value * value for value in raw))
    return [value / length for value in raw]
