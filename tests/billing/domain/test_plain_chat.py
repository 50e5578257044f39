"""The short way through a plain chat says what the walk over the whole body says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from billing.domain.modalities import only_texts, survey
from tests.rig.effort import examples

SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
NAMES = st.sampled_from(
    [
        "role",
        "content",
        "name",
        "type",
        "audio",
        "inlineData",
        "fileData",
        "cache_control",
        "image_url",
        "input",
        "parts",
    ]
)
DEEP = st.recursive(
    SCALARS | st.sampled_from(["image_url", "input_audio", "item_reference", "file"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=6,
)
MESSAGES = st.lists(st.dictionaries(NAMES, SCALARS | DEEP, max_size=3) | SCALARS, max_size=4)
FIELDS = st.dictionaries(
    st.sampled_from(
        [
            "model",
            "stream_options",
            "metadata",
            "tools",
            "prompt",
            "input",
            "system",
            "cache_control",
            "conversation",
            "previous_response_id",
            "cachedContent",
            "cached_content",
            "contents",
            "prediction",
            "response_format",
        ]
    ),
    SCALARS | DEEP,
    max_size=4,
)


@pytest.mark.tries
@settings(max_examples=examples(500), deadline=None)
@given(fields=FIELDS, messages=MESSAGES | SCALARS)
def test_a_plain_chat_is_surveyed_as_the_walk_surveys_it(fields: dict[str, Any], messages: Any) -> None:
    body = {**fields, "messages": messages}
    walked = survey(body, "openai", "gpt-4o", texts=True)  # texts are only gathered by the walk
    walked.texts = []

    assert survey(body, "openai", "gpt-4o") == walked


def test_a_chat_of_texts_goes_the_short_way() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": None}]

    assert only_texts(
        {"model": "m", "messages": messages, "temperature": 0.5, "stream_options": {"include_usage": True}}
    )
    assert not only_texts({"model": "m", "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]})
    assert not only_texts({"model": "m", "messages": messages, "conversation": "conv_1"})
