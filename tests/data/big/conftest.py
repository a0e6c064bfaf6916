"""Pictures that the tests of big data share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from quickstudy.files import cache_root
from tests.data.picturesmade import folder_of_pictures

CLASSES = [f"kind {n}" for n in range(9)]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return folder_of_pictures(tmp_path_factory.mktemp("big") / "pictures", CLASSES)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """QUICKSTUDY_CACHE for all tests of this folder."""
    folder = tmp_path_factory.mktemp("cache")
    kernels = cache_root() / "kernels"  # compiled once for all tests
    kernels.mkdir(parents=True, exist_ok=True)
    (folder / "kernels").symlink_to(kernels)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("QUICKSTUDY_CACHE", str(folder))
        yield folder
