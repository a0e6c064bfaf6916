"""What the tests of data share: a cache of their own, filled once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quickstudy.data.omniglot import Omniglot
from quickstudy.data.store import ArrayStore


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """QUICKSTUDY_CACHE for the tests that ask for it."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUICKSTUDY_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session")
def omniglot(data_root: Path, cache: Path) -> ArrayStore:
    """The real thing, decoded."""
    return Omniglot(data_root).store
