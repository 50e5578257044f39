"""One call from end to end: key, hold, provider, meter, price, ledger."""

from __future__ import annotations

import openai

from tests.gateway.world import GatewayProcess, Shop


def test_a_call_is_answered_priced_and_booked_to_the_nano_of_the_invoice(gateway: GatewayProcess, shop: Shop) -> None:
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=shop.key, max_retries=0)
    raw = client.chat.completions.with_raw_response.create(
        model="sim-small", messages=[{"role": "user", "content": "hello"}]
    )
    answer = raw.parse()
    assert answer.choices[0].message.content
    [entry] = shop.entries(1)
    line = shop.world.simulator.line_of(str(entry.rid))
    assert line is not None
    assert entry.cost_nano == line.cost_nano > 0
    assert (entry.basis, entry.state) == ("measured", "settled")
    assert raw.headers["sluice-call-id"] == str(entry.call_id)
