"""The gateway, driven by NATS's own client: calls, properties, refusals."""
import pytest

from gateway import Gateway


@pytest.fixture(scope="module")
def gateway():
    with Gateway() as running:
        yield running
        running.stop()


def test_a_method_is_called(gateway):
    answer = gateway.call("Echo", [{"type": "s", "data": "x"}])
    assert (answer.code, answer.json) == (200, [{"type": "s", "data": "x"}]), answer
    assert answer.headers == {"NKey": gateway.nkey, "Signature": "v"}
