"""Where learners fail: the figures of docs/robustness.md, on the same episodes, as a table.

    python benchmarks/robustness.py [NAME ...] [--episodes 300] [--data-root DIR] [--runs runs/learners]

Trains what has no finished run yet, as `benchmarks/learners.py` does and in the same folder; takes figures that were
saved for the recipe as it is now, and measures the others (`quickstudy evaluate RUN --robustness`). Writes
docs/robustness.json, of which `python docs/make_robustness.py` makes the page's table, and robustness.html beside the
runs.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path

import torch

import quickstudy
from quickstudy.allocator import keep_large_blocks
from quickstudy.evaluate import write_report
from quickstudy.evaluate.robustness import Robustness, robustness_section
from quickstudy.files import atomic_write_bytes
from quickstudy.recipes import load_recipe, recipe_hash
from quickstudy.stressing import EPISODES, robustness_of
from quickstudy.train import RunFolder

try:
    from learners import finished_run  # run as a script, its folder is searched
except ImportError:
    from benchmarks.learners import finished_run

RESULTS = Path(__file__).parents[1] / "docs" / "robustness.json"
NAMES = (
    "omniglot-protonet-fast",
    "omniglot-maml-fast",
    "omniglot-baseline-fast",
    "omniglot-knn-5w1s",
    "omniglot-pt-map-fast",
    "omniglot-alpha-tim-fast",
)


def measured(name: str, runs: Path, data_root: Path | None, episodes: int) -> Robustness:
    """The figures of a recipe."""
    recipe = load_recipe(name)
    folder = finished_run(recipe, runs)
    if folder is None:
        folder = quickstudy.train(recipe, runs=runs, data_root=data_root).path
    run = RunFolder(folder)
    found = robustness_of(run)
    right = found is not None and found.is_whole and found.episodes == episodes
    if found is None or not right or found.recipe_hash != recipe_hash(recipe):
        quickstudy.evaluate(folder, episodes=episodes, data_root=data_root, robustness=True)
        found = robustness_of(run)
    assert found is not None
    return found


def table(found: dict[str, Robustness], width: int = 34) -> str:
    """Plain text, a block a figure."""
    section = robustness_section(found)
    lines = []
    for name, *cells in section.rows:
        lines.append(name)
        lines += [f"  {learner:<{width}}{cell or 'not asked'}" for learner, cell in zip(found, cells, strict=True)]
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help=f"recipes of classes; by default {', '.join(NAMES)}")
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/learners"))
    parser.add_argument("--episodes", type=int, default=EPISODES, help=f"of each kind of tasks, at most {EPISODES}")
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    found = {}
    for name in given.names or NAMES:
        found[name] = measured(name, given.runs, given.data_root, given.episodes)
        print(f"{name}: {found[name].seconds:.0f} s", flush=True)
    print(table(found))
    machine = f"{platform.machine()}, one thread, torch {torch.__version__}"
    document = {name: {"machine": machine, **json.loads(one.to_json())} for name, one in found.items()}
    atomic_write_bytes(RESULTS, json.dumps(document, indent=1).encode() + b"\n")
    write_report(
        given.runs / "robustness.html",
        title="Robustness",
        lead="Learners on the same episodes, unchanged and changed.",
        sections=[robustness_section({load_recipe(name).learner.name: one for name, one in found.items()})],
        settings={name: one.source for name, one in found.items()},
    )


if __name__ == "__main__":
    main()
