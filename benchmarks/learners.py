"""Train every fast recipe, test it, and compare it in pairs with k-NN on pixels and plain pretraining.

    python benchmarks/learners.py [NAME ...] [--episodes 600] [--data-root DIR] [--runs runs/learners]

"Plain pretraining" is the recipe `omniglot-baseline-fast` (Chen et al. 2019) with the network of the recipe that it is
compared with (its norm aside): trained to tell all training classes apart, with a new linear classifier for each task.
All are tested on the same tasks: 5-way 1-shot of 15 queries, test classes of Vinyals' split. Regression recipes
(`sinusoid-...-fast`) are compared with one network for all tasks, fine-tuned. A recipe whose run is there already is
not trained again, so what was stopped goes on. Writes docs/learners/results.json. (Boosted trees take seconds a task:
`omniglot-boosting-5w1s --episodes 100`.)

What looks at all queries together is tested twice more, with 3 queries a class and with as many in all whose classes
are drawn from a Dirichlet(2) distribution (Veilleux et al. 2021; Omniglot has 20 drawings a class, so no more than 3).
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import time
from pathlib import Path
from typing import Any

import torch

import quickstudy
from quickstudy.allocator import keep_large_blocks
from quickstudy.evaluate import Result, paired
from quickstudy.recipes import Recipe, load_recipe, recipe_hash
from quickstudy.recipes.building import build_data, test_tasks
from quickstudy.recipes.shipped import names as shipped
from quickstudy.runs import open_run, recipe_of

RESULTS = Path(__file__).parents[1] / "docs" / "learners" / "results.json"
PLAIN = {"omniglot": "omniglot-baseline-fast", "sinusoid": "sinusoid-fine-tune-fast"}


def cheap() -> list[str]:
    """The recipes that are measured by default: minutes of training, or none."""
    known = [name for name in shipped() if load_recipe(name).data.name in PLAIN]
    return [name for name in known if name.endswith("-fast") or not load_recipe(name).train.steps]


def finished_run(recipe: Recipe, runs: Path) -> Path | None:
    """A run of this recipe that was trained to the end."""
    name = recipe.name
    for folder in sorted(runs.glob(f"{name}-s{recipe.seed}-*")):
        state = folder / "checkpoints" / "last" / "state.json"
        if state.exists() and recipe_of(open_run(folder)) == recipe:
            found = json.loads(state.read_text(encoding="utf-8"))
            if found["step"] == found["steps"]:
                return folder
    return None


def rivals(recipe: Recipe) -> dict[str, Recipe]:
    """What a recipe is compared with, on its own test tasks: ``"plain"`` and, for pictures, ``"knn"``.

    The plain one has the recipe's Conv-4, but for the norm, which the learner decides.
    """
    plain = load_recipe(PLAIN[recipe.data.name])
    plain = plain.model_copy(update={"episodes": plain.episodes.model_copy(update={"test": recipe.episodes.test})})
    if recipe.net is not None and recipe.net.name == "conv4" and plain.net is not None:
        options = {**recipe.net.options, "norm": plain.net.options["norm"]}
        plain = plain.model_copy(update={"net": plain.net.model_copy(update={"options": options})})
    found = {"plain": plain}
    if recipe.data.name == "omniglot":
        found["knn"] = load_recipe("omniglot-knn-5w1s")
    return {which: rival for which, rival in found.items() if rival != recipe}


def tested(recipe: Recipe, runs: Path, episodes: int, data_root: Path | None) -> tuple[Result, float | None]:
    """The result of a recipe, and the processor seconds of its training (None where that was not written down)."""
    folder, seconds = finished_run(recipe, runs), None
    if folder is None:
        begun = time.process_time()
        folder = quickstudy.train(recipe, runs=runs, data_root=data_root).path
        seconds = time.process_time() - begun
        (folder / "processor-seconds").write_text(f"{seconds:.0f}", encoding="utf-8")
    elif (folder / "processor-seconds").exists():
        seconds = float((folder / "processor-seconds").read_text(encoding="utf-8"))
    settings = test_tasks(recipe, build_data(recipe, data_root)).settings
    for saved in (folder / "evaluations").glob("*.json"):
        result = Result.load(saved)
        if result.episodes == episodes and result.source == settings:  # the same tasks; it would come out the same
            return result, seconds
    return quickstudy.evaluate(folder, episodes=episodes, data_root=data_root, report=False), seconds


def with_uneven_queries(recipe: Recipe, runs: Path, episodes: int, data_root: Path | None) -> dict[str, list[float]]:
    """Mean and interval with 3 queries a class, and with 15 of Dirichlet(2) proportions."""
    folder, found = finished_run(recipe, runs), {}
    assert folder is not None
    for column, dirichlet in (("even", 0.0), ("dirichlet", 2.0)):
        result = quickstudy.evaluate(
            folder, query=3, dirichlet=dirichlet, episodes=episodes, data_root=data_root, report=False
        )
        found[column] = [result.mean, result.ci95]
    return found


def difference(ours: Result, theirs: Result) -> dict[str, float]:
    """Paired, in the metric's unit; positive is better for ours."""
    found = paired(ours, theirs)
    if not math.isfinite(found.difference):
        raise SystemExit(f"{ours.learner} diverged in an episode: there is no difference to write down.")
    sign = 1 if ours.metric == "accuracy" else -1
    return {"mean": sign * found.difference, "ci95": found.ci95}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("names", nargs="*", help="recipes; by default all fast ones, and those without training")
    parser.add_argument("--episodes", type=int, default=600)
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--runs", type=Path, default=Path("runs/learners"))
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    for name in given.names or cheap():
        recipe = load_recipe(name)
        result, seconds = tested(recipe, given.runs, given.episodes, given.data_root)
        others = {
            which: tested(rival, given.runs, given.episodes, given.data_root)[0]
            for which, rival in rivals(recipe).items()
        }
        entry: dict[str, Any] = {
            "learner": recipe.learner.name,
            "recipe": recipe_hash(recipe),
            "metric": result.metric,
            "mean": result.mean,
            "ci95": result.ci95,
            "episodes": result.episodes,
            "steps": recipe.train.steps,
            "processor_seconds": None if seconds is None else round(seconds),
            "transductive": result.transductive,
            "balanced_prior": result.balanced_prior,
            "versus": {which: difference(result, other) for which, other in others.items()},
            "machine": f"{platform.machine()}, one thread, torch {torch.__version__}",
        }
        if result.transductive and recipe.data.name == "omniglot":
            entry["three_queries"] = with_uneven_queries(recipe, given.runs, given.episodes, given.data_root)
        save(name, entry)
        versus = ", ".join(f"{w} {d['mean']:+.4f} ± {d['ci95']:.4f}" for w, d in entry["versus"].items())
        print(
            f"{name:<40} {result.mean:.4f} ± {result.ci95:.4f}  {versus}  ({entry['processor_seconds']} s)", flush=True
        )


def save(name: str, entry: dict[str, Any]) -> None:
    """One entry of the results, the others kept."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known[name] = entry
    RESULTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
