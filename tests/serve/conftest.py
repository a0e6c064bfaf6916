"""A service in this process, and things to show it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from quickstudy.serve import Settings, create_app
from tests.serve.things import client_of


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with client_of(create_app(Settings(tasks=tmp_path / "tasks"))) as found:
        yield found
