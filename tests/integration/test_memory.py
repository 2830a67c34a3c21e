"""What a large message took is given back: both daemons run for months."""
import pytest
from gi.repository import GLib
from stack import NAME, TEST, wait_for

BOUND = 8 * 1024 * 1024
SIZE = 20 * 1024 * 1024


def rss_anon(program):
    with open(f"/proc/{program.process.pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("RssAnon:"))


def test_memory_is_given_back_after_a_large_message(own):
    if max(rss_anon(own.proxy), rss_anon(own.agent)) > BOUND:
        pytest.skip("a sanitizer's own memory is over the bound")
    data = GLib.Variant.new_from_bytes(GLib.VariantType("ay"), GLib.Bytes.new(bytes(SIZE)), True)
    arguments = GLib.Variant.new_tuple(GLib.Variant.new_variant(data))
    for _ in range(2):
        reply = own.client.connection.call_sync(NAME, own.path(below="/com/example/Test"), TEST, "Echo", arguments, None, 0,
                                                60000, None)
        assert reply.get_child_value(0).get_size() >= SIZE
        for program in (own.proxy, own.agent):
            wait_for(lambda program=program: rss_anon(program) <= BOUND, f"{program.name} at {rss_anon(program)} bytes", 5)
