"""Nodes for the process tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.process import kit
from toolring import Client


@pytest.fixture(scope="module")
def shared() -> Iterator[kit.Node]:
    """One node with two workers for a whole file: every fault leaves it fit for the next test."""
    with kit.running() as node:
        yield node


@pytest.fixture
def node(shared: kit.Node) -> Iterator[kit.Node]:
    """The shared node; afterwards it must be whole."""
    if shared.process.poll() is not None:
        shared.start()  # the test that ended it has failed already
        shared.until_ready()
    yield shared
    assert shared.process.poll() is None, f"the node fell:\n{shared.log[-4000:]}"
    shared.until_whole()


@pytest.fixture
def nodes() -> Iterator[list[kit.Node]]:
    """Three, for one test: it may do to them what it likes."""
    with ExitStack() as stack:
        yield [stack.enter_context(kit.running(kit.HERE / "cluster_tools.py", workers=2)) for _ in range(3)]


@pytest.fixture
def client(node: kit.Node) -> Iterator[Client]:
    with node.client() as client:
        yield client


@pytest.fixture
def spot(tmp_path: Path) -> Path:
    """A path that doesn't exist yet, for a tool to write to."""
    return tmp_path / "spot"
