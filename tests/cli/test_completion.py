"""``quickstudy completion``: what a shell is told."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from quickstudy.data.published import PUBLISHED
from quickstudy.recipes import recipes
from quickstudy.shipped import shipped_names
from tests.cli.conftest import Command

COMPLETED = """
eval "$(quickstudy completion bash)"
COMP_WORDS=({words}) COMP_CWORD={place}
_quickstudy_completion quickstudy
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.fixture
def bash(tmp_path: Path) -> Callable[..., list[str]]:
    """What bash offers after these words, the last of which is begun."""
    program = tmp_path / "quickstudy"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m quickstudy "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}

    def complete(*words: object) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        script = COMPLETED.format(words=quoted, place=len(words) - 1)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env=environment)
        assert not done.stderr
        return done.stdout.split()

    return complete


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_a_real_bash(bash: Callable[..., list[str]]) -> None:
    assert bash("quickstudy", "ad") == ["add", "advise"]
    assert bash("quickstudy", "learn", "x", "--reject") == ["--reject-unknown"]
    offered = bash("quickstudy", "learn", "x", "--learner", "")
    assert {"auto", "knn", *shipped_names()} <= set(offered)


@pytest.mark.parametrize(
    ("words", "offers"),
    [
        ("quickstudy train sinusoid-m", [name for name in recipes.names() if name.startswith("sinusoid-m")]),
        ("quickstudy fetch ", sorted(PUBLISHED)),
        ("quickstudy completion ", ["bash", "fish", "zsh"]),
    ],
)
def test_names(words: str, offers: list[str], quickstudy: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    monkeypatch.setenv("_QUICKSTUDY_COMPLETE", "complete_bash")
    assert sorted(quickstudy().out.split()) == offers


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(shell: str, quickstudy: Command) -> None:
    done = quickstudy("completion", shell)
    assert done.status == 0 and f"_QUICKSTUDY_COMPLETE=complete_{shell}" in done.out
    refused = quickstudy("completion", "tcsh")
    assert refused.status == 2 and "'tcsh' is not one of 'bash', 'zsh', 'fish'" in refused.err


def test_a_key_that_is_pressed_does_not_wait_for_torch() -> None:
    code = (
        "import sys\n"
        "from quickstudy.cli import completion, main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    asked = {"COMP_WORDS": "quickstudy learn x --learner ", "COMP_CWORD": "4", "_QUICKSTUDY_COMPLETE": "complete_bash"}
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, capture_output=True, text=True)
    assert done.returncode == 0 and "drawings" in done.stdout, done.stderr
