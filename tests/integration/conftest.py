"""Stacks for the tests: a shared one for what leaves no trace, one of its own for each test that breaks things."""
import pathlib
import sys

import pytest

sys.path[:0] = [str(pathlib.Path(__file__).parent), str(pathlib.Path(__file__).parents[1])]

from stack import Stack  # noqa: E402


@pytest.fixture(scope="module")
def shared():
    with Stack() as running:
        yield running
        running.stop()


@pytest.fixture
def stack(shared):
    """The shared stack, whole before and after the test."""
    shared.check()
    yield shared
    shared.check()


@pytest.fixture
def own():
    """A stack that the test may break, and mends again."""
    with Stack() as running:
        yield running
        running.stop()
