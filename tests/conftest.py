"""What all tests share: where the real data lies."""

import os
from pathlib import Path

import pytest

try:
    import hypothesis
except ImportError:  # beside other meta-learning libraries, tests/peers
    pass
else:  # a busy machine takes any time for anything; what takes too long is the whole suite's concern
    hypothesis.settings.register_profile("house", deadline=None)
    hypothesis.settings.load_profile("house")


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data sets: QUICKSTUDY_DATA, else ``shared/datasets`` beside the repository."""
    root = Path(os.environ.get("QUICKSTUDY_DATA") or Path(__file__).parents[2] / "shared" / "datasets")
    needed(root / "omniglot")
    return root


def needed(folder: Path) -> Path:
    """The folder of a real data set; where there is none the test is skipped, and in CI it fails."""
    if not folder.is_dir():
        reason = f"no real data: set QUICKSTUDY_DATA to the folder that holds {folder.name}/"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
