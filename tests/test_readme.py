"""Every code block of the pages that a newcomer reads runs as printed."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from sklearn.datasets import load_digits

REPOSITORY = Path(__file__).parents[1]
PAGES = ("README.md", "CONTRIBUTING.md", "docs/own-network.md", "docs/doctor.md")
# Appended to a command, so that it takes seconds: the last of two equal options counts.
SHORTER = {
    "train": ["--steps", "2"],
    "evaluate": ["--episodes", "10"],
    "serve": ["--list-keys"],
    "advise": ["--episodes", "2"],
}


def blocks(language: str) -> list[tuple[str, str]]:
    """(page, block) of all blocks in a language."""
    fenced = re.compile(rf"^```{language}\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
    return [(page, block) for page in PAGES for block in fenced.findall((REPOSITORY / page).read_text("utf-8"))]


def lines(program: str) -> list[str]:
    """The lines of all shell blocks that call a program."""
    every = [line for _, block in blocks("sh") for line in block.splitlines()]
    return [line for line in every if line.split()[0] == program]


def run(*command: str, cwd: Path) -> str:
    """Its stdout, after checking that it succeeded."""
    # Warnings are errors here as well, but for those of a fresh matplotlib that looks for fonts.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=environment)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr}"
    return done.stdout


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    text = "".join((REPOSITORY / page).read_text("utf-8") for page in PAGES)
    kinds = re.findall(r"^```(\w*)$", text, flags=re.MULTILINE)[::2]
    assert set(kinds) == {"sh", "python"}
    programs = {line.split()[0] for _, block in blocks("sh") for line in block.splitlines()}
    assert programs == {"make", "python3", "quickstudy"}


def test_the_python_example(tmp_path: Path) -> None:
    _, block = [block for page, block in blocks("python") if page == "README.md"]
    assert len([line for line in block.splitlines() if line and not line.startswith("#")]) <= 20
    out = run(sys.executable, "-W", "error", "-c", block, cwd=tmp_path)
    assert re.match(r"accuracy \d+\.\d ± \d+\.\d % over 200 episodes; .*protonet on glyphs, test, 5-way 1-shot\n", out)
    right = re.search(r"(\d+)% right$", out)
    assert right is not None
    assert int(right.group(1)) >= 80  # half is chance


def test_the_example_of_an_estimator(tmp_path: Path) -> None:
    block, _ = [block for page, block in blocks("python") if page == "README.md"]
    right = re.fullmatch(r"drawings: (\d+)% right\n", run(sys.executable, "-W", "error", "-c", block, cwd=tmp_path))
    assert right is not None
    assert int(right.group(1)) >= 80  # a tenth is chance


@pytest.mark.parametrize(("page", "block"), [pair for pair in blocks("python") if pair[0] != "README.md"])
def test_the_python_blocks_of_other_pages(page: str, block: str, tmp_path: Path) -> None:
    del page
    run(sys.executable, "-W", "error", "-c", block, cwd=tmp_path)


def draw_classes(folder: Path) -> None:
    """``my_classes/`` and ``new.png`` of the page."""
    digits = load_digits()
    for number in range(20):
        place = folder / "my_classes" / str(digits.target[number])
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray((digits.images[number] * 15).astype("uint8")).save(place / f"{number}.png")
    shutil.copy(place / "19.png", folder / "new.png")


def test_the_commands_of_the_command_line(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUICKSTUDY_DATA", str(data_root))
    draw_classes(tmp_path)
    (tmp_path / "results").symlink_to(REPOSITORY / "results")  # as in a clone
    for line in lines("quickstudy"):
        program, verb, *rest = line.split()
        del program
        # Going on with a run wants the steps that it was begun with.
        run(sys.executable, "-m", "quickstudy", verb, *rest, *SHORTER.get(verb, []), cwd=tmp_path)


@pytest.mark.parametrize("line", lines("make"))
def test_a_make_target_is_there(line: str) -> None:
    run("make", "--dry-run", *line.split()[1:], cwd=REPOSITORY)


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", (REPOSITORY / page).read_text("utf-8")):
            assert target.startswith("https://") or (REPOSITORY / page).parent.joinpath(target).exists(), (
                f"{page}: {target}"
            )
