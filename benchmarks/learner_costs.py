"""What each learner costs relative to ProtoNet, on one thread: a training step and a meta-test, by fast recipes.

    python benchmarks/learner_costs.py [NAME ...] [--data-root DIR]

Every learner with a fast recipe on Omniglot, or one without training, gets the same 5-way 1-shot tasks of 15 queries
and the same Conv-4 of 64 filters with max-pooling, whatever its recipe says of it but for the norm; all else is the
recipe's. A figure is the median, over repetitions in which ProtoNet and the learner alternate, of the ratio of
processor times. Writes docs/learners/costs.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from quickstudy.allocator import keep_large_blocks
from quickstudy.data.source import TaskSource
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.learner import AbstractLearner
from quickstudy.recipes import load_recipe
from quickstudy.recipes.building import build_data, build_learner
from quickstudy.recipes.schema import Part
from quickstudy.recipes.shipped import names as shipped

COSTS = Path(__file__).parents[1] / "docs" / "learners" / "costs.json"
TASKS = 4
# The relation module wants maps that it can look at with 3x3 filters; its network stays as it is.
KEPT = {"omniglot-relation-fast": ("norm", "halvings", "padded")}


def learner_of(name: str, source: TaskSource) -> AbstractLearner:
    """The recipe's learner on the common tasks and the common network."""
    recipe = load_recipe(name)
    if recipe.net is not None:
        options = {option: value for option, value in recipe.net.options.items() if option in KEPT.get(name, ("norm",))}
        recipe = recipe.model_copy(update={"net": Part(name="conv4", options=options)})
    return build_learner(recipe, source.shape)


def training(learner: AbstractLearner, source: TaskSource) -> Callable[[], None]:
    """One step's work on ``TASKS`` tasks (or as many rows in plain batches): loss and gradient."""
    episode = source.episodes(range(TASKS))
    batches = source.batches(TASKS * 80) if "episodes" not in learner.traits.phases else None
    learner.train()

    def work() -> None:
        learner.zero_grad()
        out = learner.meta_loss(episode) if batches is None else learner.batch_loss(batches.batch(0))
        out.loss.sum().backward()  # type: ignore[no-untyped-call]

    return work


def testing(learner: AbstractLearner, source: TaskSource) -> Callable[[], None]:
    """Adapting to ``TASKS`` tasks and predicting their queries."""
    episode = source.episodes(range(TASKS))
    if "batches" in learner.traits.phases:  # what some measure in training, such as a mean feature, has to be there
        batch = source.batches(TASKS * 80).batch(0)
        learner.absorb(learner.batch_loss(batch).carried)

    def work() -> None:
        with evaluating(learner):
            answer(learner, episode)

    return work


def ratio(work: Callable[[], None], reference: Callable[[], None], repetitions: int) -> float:
    """Median ratio of processor times, alternating, after a warm-up of each."""
    found = []
    work()
    reference()
    for _ in range(repetitions):
        times = []
        for one in (work, reference):
            begun = time.process_time()
            one()
            times.append(time.process_time() - begun)
        found.append(times[0] / times[1])
    return statistics.median(found)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument(
        "names", nargs="*", help="recipes; by default all fast ones on Omniglot, and those without training"
    )
    parser.add_argument("--data-root", type=Path)
    parser.add_argument("--repetitions", type=int, default=5)
    given = parser.parse_args()
    torch.set_num_threads(1)
    keep_large_blocks()
    data = build_data(load_recipe("omniglot-protonet-fast"), given.data_root)
    source = data.tasks("train", way=5, shot=1, query=15, seed=0)
    reference = learner_of("omniglot-protonet-fast", source)
    names = given.names or [
        name
        for name in shipped()
        if load_recipe(name).data.name == "omniglot" and (name.endswith("-fast") or not load_recipe(name).train.steps)
    ]
    for name in names:
        recipe = load_recipe(name)
        learner = learner_of(name, source)
        test = ratio(testing(learner, source), testing(reference, source), given.repetitions)
        train = None
        if learner.traits.trainable:
            train = round(ratio(training(learner, source), training(reference, source), given.repetitions), 2)
        known = json.loads(COSTS.read_text(encoding="utf-8")) if COSTS.exists() else {}
        known[recipe.learner.name] = {"recipe": name, "train": train, "test": round(test, 2)}
        COSTS.write_text(json.dumps(dict(sorted(known.items())), indent=1) + "\n", encoding="utf-8")
        said = "nothing" if train is None else f"{train:.2f}"
        print(f"{recipe.learner.name:<24} training {said:>8}   meta-test {test:8.2f}   (ProtoNet = 1)", flush=True)


if __name__ == "__main__":
    main()
