"""Train every fast recipe on Omniglot, test it, and compare it in pairs with k-NN on pixels and plain pretraining.

    python benchmarks/learners.py [NAME ...] [--episodes 600] [--data-root DIR] [--runs runs/learners]

"Plain pretraining" is the recipe `omniglot-baseline-fast` (Chen et al. 2019): the same network trained to tell all
training classes apart, with a new linear classifier for each task. All are tested on the same tasks: 5-way 1-shot of
15 queries, test classes of Vinyals' split. Regression recipes (`sinusoid-...-fast`) are compared with one network for
all tasks, fine-tuned. A recipe whose run is there already is not trained again, so what was stopped goes on. Writes
docs/learners/results.json.

What looks at all queries together is tested twice more, with 3 queries a class and with as many in all whose classes
are drawn from a Dirichlet(2) distribution (Veilleux et al. 2021; Omniglot has 20 drawings a class, so no more than 3).
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import quickstudy
from quickstudy.cli.process import keep_large_blocks
from quickstudy.evaluate import Result, meta_test, paired
from quickstudy.learners import KNN
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_data, build_learner, test_tasks
from quickstudy.recipes.shipped import names as shipped
from quickstudy.runs import open_run, recipe_of

RESULTS = Path(__file__).parents[1] / "docs" / "learners" / "results.json"
PLAIN = {"omniglot": "omniglot-baseline-fast", "sinusoid": "sinusoid-fine-tune-fast"}


def finished_run(name: str, runs: Path) -> Path | None:
    """A run of this recipe, as it ships now, that was trained to the end."""
    recipe = load_recipe(name)
    for folder in sorted(runs.glob(f"{name}-s{recipe.seed}-*")):
        state = folder / "checkpoints" / "last" / "state.json"
        if state.exists() and recipe_of(open_run(folder)) == recipe:
            found = json.loads(state.read_text(encoding="utf-8"))
            if found["step"] == found["steps"]:
                return folder
    return None


def tested(name: str, runs: Path, episodes: int, data_root: Path | None) -> tuple[Result, float | None]:
    """The result of a fast recipe, and the seconds of its training (None where it was trained before)."""
    folder, seconds = finished_run(name, runs), None
    if folder is None:
        begun = time.perf_counter()
        folder = quickstudy.train(name, runs=runs, data_root=data_root).path
        seconds = time.perf_counter() - begun
        (folder / "seconds").write_text(f"{seconds:.0f}", encoding="utf-8")
    elif (folder / "seconds").exists():
        seconds = float((folder / "seconds").read_text(encoding="utf-8"))
    return quickstudy.evaluate(folder, episodes=episodes, data_root=data_root, report=False), seconds


def with_uneven_queries(name: str, runs: Path, episodes: int, data_root: Path | None) -> dict[str, list[float]]:
    """Mean and interval with 3 queries a class, and with 15 of Dirichlet(2) proportions."""
    folder, found = finished_run(name, runs), {}
    assert folder is not None
    for column, dirichlet in (("even", 0.0), ("dirichlet", 2.0)):
        result = quickstudy.evaluate(
            folder, query=3, dirichlet=dirichlet, episodes=episodes, data_root=data_root, report=False
        )
        found[column] = [result.mean, result.ci95]
    return found


def untrained(name: str, learner_name: str, episodes: int, data_root: Path | None) -> Result:
    """A learner that needs no training, on the tasks of a recipe."""
    recipe = load_recipe(name)
    source = test_tasks(recipe, build_data(recipe, data_root))
    learner = KNN() if learner_name == "knn" else build_learner(recipe, source.shape)
    return replace(meta_test(learner, source, episodes=episodes), learner=learner_name)


def difference(ours: Result, theirs: Result) -> dict[str, float]:
    """Paired, in the metric's unit; positive is better for ours."""
    found = paired(ours, theirs)
    sign = 1 if ours.metric == "accuracy" else -1
    return {"mean": sign * found.difference, "ci95": found.ci95}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="recipes; all fast ones by default")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/learners"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    fast = [name for name in shipped() if name.endswith("-fast") and name.split("-")[0] in PLAIN]
    baselines: dict[str, dict[str, Result]] = {}
    for name in given.names or fast:
        data = name.split("-")[0]
        result, seconds = tested(name, given.runs, given.episodes, given.data_root)
        if data not in baselines:
            plain, _ = tested(PLAIN[data], given.runs, given.episodes, given.data_root)
            baselines[data] = {"plain": plain}
            if data == "omniglot":
                baselines[data]["knn"] = untrained(name, "knn", given.episodes, given.data_root)
        recipe = load_recipe(name)
        entry: dict[str, Any] = {
            "learner": recipe.learner.name,
            "metric": result.metric,
            "mean": result.mean,
            "ci95": result.ci95,
            "episodes": result.episodes,
            "steps": recipe.train.steps,
            "seconds": None if seconds is None else round(seconds),
            "transductive": result.transductive,
            "balanced_prior": result.balanced_prior,
            "versus": {which: difference(result, other) for which, other in baselines[data].items()},
            "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        }
        if result.transductive and data == "omniglot":
            entry["three_queries"] = with_uneven_queries(name, given.runs, given.episodes, given.data_root)
        save(name, entry)
        versus = ", ".join(f"{w} {d['mean']:+.4f} ± {d['ci95']:.4f}" for w, d in entry["versus"].items())
        print(f"{name:<40} {result.mean:.4f} ± {result.ci95:.4f}  {versus}  ({entry['seconds']} s)", flush=True)


def save(name: str, entry: dict[str, Any]) -> None:
    """One entry of the results, the others kept."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[name] = entry
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
