"""AWS signatures against AWS's own test suite (awslabs/aws-c-auth, tests/aws-signing-test-suite/v4): same keys, same moment, same answers."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from workspaces.domain import sigv4

KEYS = sigv4.Keys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY")
TOKEN = (
    "AQoDYXdzEPT//////////wEXAMPLEtc764bNrC9SAPBSM22wDOk4x4HIZ8j4FZTwdQWLWsKWHGBuFqwAeMicRXmxfpSPfIeoIYRqTflfKD8YUuwthAx7mSEI/qkPpKPi/"
    "kMcGdQrmGdeehM4IC1NtBmUpp2wUE8phUZampKsburEDy0KPkyQDYwT7WZ0wq5VSXDvp75YU9HFvlRd8Tx6q6fE8YQcHNVXAkiY9q6d+xo0rKwT38xVqr7ZD0u0iPPkUL64"
    "lIZbqBAz+scqKmlzm8FDrypNC9Yjc8fPOLn9FX9KSYvKTr4rvx3iSIlTJabIQwj2ICCR/oLxBA=="
)
FORM = "application/x-www-form-urlencoded"
CASES = [
    ("get-vanilla", "GET", "/", "", {}, b"", "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"),
    ("get-vanilla-query-order-key-case", "GET", "/", "Param1=value1&Param2=value2", {}, b"",
     "b97d918cfa904a5beff61c982a1b6f458b799221646efd99d3219ec94cdf2500"),
    ("get-utf8", "GET", "/ሴ", "", {}, b"", "8318018e0b0f223aa2bbf98705b62bb787dc9c0e678f255a891fd03141be5d85"),
    ("post-vanilla", "POST", "/", "", {}, b"", "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"),
    ("post-header-value-case", "POST", "/", "", {"my-header1": "VALUE1"}, b"",
     "cdbc9802e29d2942e5e10b5bccfdd67c5f22c7c4e8ae67b53629efa58b974b7d"),
    ("post-x-www-form-urlencoded", "POST", "/", "", {"content-type": FORM}, b"Param1=value1",
     "ff11897932ad3f4e8b18135d722051e5ac45fc38421b1da7b9d196a0fe09473a"),
    ("post-sts-header-before", "POST", "/", "", {}, b"", "85d96828115b5dc0cfc3bd16ad9e210dd772bbebba041836c64533a82be05ead"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "method", "path", "query", "sent", "body", "signature"), CASES, ids=lambda case: case)
def test_a_signature_is_the_one_that_aws_publishes(
    name: str, method: str, path: str, query: str, sent: dict[str, str], body: bytes, signature: str
) -> None:
    keys = sigv4.Keys(KEYS.access_key_id, KEYS.secret_access_key, TOKEN) if "sts" in name else KEYS
    added = sigv4.headers(
        keys, method=method, path=path, query=query, sent={"host": "example.amazonaws.com", **sent}, body=body,
        region="us-east-1", service="service", now=datetime(2015, 8, 30, 12, 36, tzinfo=UTC),
    )  # fmt: skip
    names = ";".join(sorted({"host", *sent, *(added.keys() - {"authorization"})}))
    assert added["authorization"] == (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, "
        f"SignedHeaders={names}, Signature={signature}"
    )
    assert added["x-amz-date"] == "20150830T123600Z"


def test_a_path_that_is_already_encoded_is_encoded_once_more_in_what_is_signed() -> None:
    """Every service but S3 does: the model id of Bedrock has a colon, which is sent as %3A and signed as %253A."""
    asked = sigv4.canonical_request("POST", "/model/a.b-v1%3A0/invoke", "", {"host": "h"}, b"")
    assert asked.split("\n")[1] == "/model/a.b-v1%253A0/invoke"


def test_a_pasted_key_is_a_pair_with_or_without_a_session_or_a_bedrock_api_key() -> None:
    assert sigv4.parse("AKID:secret/+") == sigv4.Keys("AKID", "secret/+")
    assert sigv4.parse("ASID:secret:token==") == sigv4.Keys("ASID", "secret", "token==")
    assert sigv4.parse("ABSKQmVkcm9ja0FQSUtleQ==") is None


@pytest.mark.parametrize("pasted", ["AKIAEXAMPLE", "AKID:", ":secret", "a:b:c:d", "not a key:secret"])
def test_half_a_pair_is_refused_with_what_to_paste(pasted: str) -> None:
    with pytest.raises(sigv4.BadKey, match="ACCESS_KEY_ID:SECRET_ACCESS_KEY"):
        sigv4.parse(pasted)


def test_keys_do_not_show_themselves() -> None:
    assert "wJalr" not in repr(KEYS)
