"""A service in this process, and things to show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from quickstudy.serve import Settings, create_app
from tests.serve.things import client_of


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """One for all tests of a file, each of which makes tasks of its own."""
    with client_of(create_app(Settings(tasks=tmp_path_factory.mktemp("service") / "tasks"))) as found:
        yield found


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TestClient]:
    """One without a single task."""
    with client_of(create_app(Settings(tasks=tmp_path / "tasks"))) as found:
        yield found
