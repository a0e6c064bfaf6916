"""What start-up loads, by counts: seconds would depend on the machine. ``benchmarks/startup.py`` measures them."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What takes long to import, and what only some commands need. Not pydantic: some versions of typer load it themselves.
HEAVY = {"jinja2", "matplotlib", "numpy", "PIL", "safetensors", "scipy", "sklearn", "torch"}
OF_TYPER = {"pydantic"}
ROOMS = {f"quickstudy.{room}" for room in ("api", "data", "evaluate", "learners", "nets", "recipes", "train")}
# What the learners need beyond torch; the standard library aside.
LEARNERS_NEED = {"numpy", "quickstudy", "torch", "typing_extensions"}


def loaded(code: str, *arguments: str) -> set[str]:
    """Modules that a fresh process has loaded after ``code``: top-level ones, and those of quickstudy."""
    report = "\nimport sys; print('LOADED', *sorted(m for m in sys.modules if '.' not in m or m[:11] == 'quickstudy.'))"
    done = subprocess.run(
        [sys.executable, "-c", code + report, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


COMMAND = """
import sys
from quickstudy.cli import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert left.code == 0, left.code
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ("--help",),
        ("--version",),
        *((name, "--help") for name in ("train", "evaluate", "demo", "list", "show", "doctor")),
    ],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    assert (HEAVY | ROOMS) & loaded(COMMAND, *arguments) == set()


def test_the_package_alone_loads_nothing_heavy() -> None:
    assert (HEAVY | OF_TYPER | ROOMS) & loaded(
        "import quickstudy; quickstudy.__version__; quickstudy.keep_large_blocks()"
    ) == set()


def test_learners_load_little_beyond_torch() -> None:
    """So that their first use costs little more than torch's own import."""
    torch = loaded("import torch")
    ours = loaded("import quickstudy; quickstudy.learners.MAML; quickstudy.nets.Conv4")
    beyond = {name for name in ours - torch if "." not in name} - set(sys.stdlib_module_names)
    assert beyond <= LEARNERS_NEED, f"quickstudy.learners now loads {sorted(beyond - LEARNERS_NEED)}"
    assert "quickstudy.learners.maml" in ours
    assert {"quickstudy.recipes", "quickstudy.api", "quickstudy.train.engine"} & ours == set()


def test_opening_data_loads_no_networks_no_plots() -> None:
    ours = loaded("from quickstudy.data.omniglot import Omniglot")
    assert {"matplotlib", "pydantic", "scipy", "sklearn"} & ours == set()


def test_the_api_loads_no_solvers_no_plots() -> None:
    """What every command but --help waits for."""
    ours = loaded("import quickstudy.api, sys; assert 'scipy.optimize' not in sys.modules")
    assert {"matplotlib", "sklearn"} & ours == set()
