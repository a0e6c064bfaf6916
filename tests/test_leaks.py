"""Nothing of the test reaches training or the choice of a model: not by name, not by content, not as it is drawn.

For every recipe that ships; what takes long to open is marked slow. Each check is shown to fail where a leak was
planted.
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import quickstudy
from quickstudy.data.batches import ClassBatches
from quickstudy.data.classtasks import ClassTasks, Rotations
from quickstudy.data.dataset import DataSet
from quickstudy.data.glyphs import Glyphs
from quickstudy.data.leaks import drawn_digests, leaks
from quickstudy.data.metadataset.mini import MINI
from quickstudy.data.sinusoid import Sinusoid
from quickstudy.data.source import TaskSource
from quickstudy.data.store import ArrayStore
from quickstudy.episode import Episode, Examples
from quickstudy.errors import DataError
from quickstudy.keys import Integers
from quickstudy.recipes import Recipe, load_recipe, recipes
from quickstudy.recipes.building import build_data
from quickstudy.sweeps import Swept, sweep
from tests.sweeps.test_sweep import InThisProcess

NO_ROWS = {
    **dict.fromkeys(("point-navigation", "environment"), "examples exist once somebody acts"),
    **dict.fromkeys(("half-cheetah-direction", "half-cheetah-velocity", "ant-broken-joints"), "likewise"),
    **dict.fromkeys(("metaworld-reach", "metaworld-push"), "likewise"),
    **dict.fromkeys(("images", "sounds", "texts", "table", "shards", "parquet"), "files of one's own; tests/data"),
    **dict.fromkeys(
        ("movietweetings", "sp500", "uci-heart"), "tasks share items, days or rules; tests/data, docs/domains"
    ),
}
"""Data set -> why its roles are not compared here."""
CHEAP = ("omniglot", "omniglot-runs", "glyphs", "ink", "sinusoid", "tables")


def kinds() -> dict[str, list[Recipe]]:
    """Data with its options -> the recipes that read it."""
    found: dict[str, list[Recipe]] = defaultdict(list)
    for name in recipes.names():
        recipe = load_recipe(name)
        if recipe.data.name not in NO_ROWS:
            found[f"{recipe.data.name} {json.dumps(recipe.data.options, sort_keys=True)}"].append(recipe)
    return found


KINDS = kinds()


def sources_of(recipe: Recipe, data: DataSet) -> dict[str, TaskSource]:
    """Role -> its tasks, in the sizes of the recipe; roles that are parts of each other are not compared."""
    test = recipe.episodes.test
    fixed: Callable[[str], Mapping[str, int]] = getattr(data, "fixed", lambda role: {})
    sizes = {"train": recipe.episodes.train, "validation": recipe.episodes.validation or test, "test": test}
    found = {}
    for role, size in sizes.items():
        if role in data.splits:
            asked: dict[str, Any] = {"way": size.way, "shot": size.shot, "query": size.query, **fixed(role)}
            found[role] = data.tasks(role, seed=0, **asked)
    return found


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=() if k.split()[0] in CHEAP else pytest.mark.slow) for k in sorted(KINDS)]
)
def test_roles_share_neither_classes_nor_examples(kind: str, data_root: Path) -> None:
    recipe = KINDS[kind][0]
    try:
        sources = sources_of(recipe, build_data(recipe, data_root))
    except DataError as error:
        if kind.split()[0] in CHEAP:  # what the default suite reads is needed by other tests, too
            raise
        pytest.skip(str(error))
    assert {"train", "test"} <= set(sources)
    assert leaks(sources) == []


@pytest.mark.slow
def test_no_column_of_mini_meta_dataset_was_trained_or_chosen_on(data_root: Path) -> None:
    recipe = load_recipe("mini-meta-dataset-protonet-fast")
    columns = {name: build_data(load_recipe(recipe.name, {"data.test": name}), data_root) for name in MINI}
    sources = sources_of(recipe, columns["omniglot"])
    del sources["test"]
    for name, data in columns.items():
        assert leaks({**sources, "test": sources_of(recipe, data)["test"]}) == [], name


def test_every_recipe_tests_on_another_role_than_it_trains_and_chooses_on() -> None:
    for name in recipes.names():
        recipe = load_recipe(name)
        used = {*recipe.train.role.split("+"), *(("validation",) if recipe.train.validate_every else ())}
        assert recipe.evaluate.role not in used, name


def test_every_data_set_is_looked_at_or_excused() -> None:
    looked_at = {kind.split()[0] for kind in KINDS}
    assert looked_at.isdisjoint(NO_ROWS) and set(CHEAP) <= looked_at
    assert looked_at | set(NO_ROWS) == {load_recipe(name).data.name for name in recipes.names()}


# --- planted leaks ----------------------------------------------------------------------------


def pictures(seed: int, n: int = 4) -> Any:
    return np.random.default_rng(seed).integers(0, 256, (n, 8, 8)).astype(np.uint8)


def tasks(classes: Mapping[str, Any], rotations: Rotations = "none", split: str = "x") -> ClassTasks:
    store = ArrayStore.from_classes(classes)
    sizes: dict[str, Any] = {"way": 2, "shot": 1, "query": 1, "seed": 0}
    return ClassTasks(store, range(len(classes)), data="made", split=split, rotations=rotations, **sizes)


def planted(what: str) -> dict[str, TaskSource]:
    train = {"a": pictures(0), "b": pictures(1)}
    test = {"c": pictures(2), "d": pictures(3)}
    if what == "class":
        test["a"] = pictures(4)
    if what == "picture":
        test["d"][2] = train["b"][1]
    if what == "turned picture":
        test["d"][2] = np.rot90(train["b"][1])
    return {"train": tasks(train, "classes" if what == "turned picture" else "none"), "test": tasks(test)}


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("class", ["train and test share 1 classes, such as 'a'."]),
        ("picture", ["train and test share 1 examples, such as example 1 of 'b' and example 2 of 'd'."]),
        (
            "turned picture",
            ["train and test share 1 examples (perhaps turned), such as example 1 of 'b' and example 2 of 'd'."],
        ),
        ("nothing", []),
    ],
)
def test_a_planted_leak_is_found(what: str, said: list[str]) -> None:
    assert leaks(planted(what)) == said


def test_the_same_functions_in_training_and_test_are_found() -> None:
    sizes: dict[str, Any] = {"shot": 5, "query": 5, "seed": 0}
    train, test = Sinusoid().tasks("train", **sizes), Sinusoid().tasks("test", **sizes)
    assert leaks({"train": train, "test": test}) == []
    (found,) = leaks({"train": train, "test": Sinusoid().tasks("train", **sizes)})
    assert found.startswith("train and test share 1000 examples")
    assert len(drawn_digests(train.episodes(range(2)))) == 20


# --- what is truly drawn ----------------------------------------------------------------------


class Watch:
    """Who draws what: split -> the classes of its tasks and batches."""

    def __init__(self) -> None:
        self.classes: dict[str, set[int]] = defaultdict(set)
        self.order: list[str] = []  # splits, as they were drawn from

    def saw(self, source: TaskSource | ClassBatches, classes: Any) -> None:
        self.order.append(str(source.settings["split"]))
        self.classes[self.order[-1]] |= {int(one) for one in np.unique(classes)} - {-1}


@contextmanager
def watched() -> Iterator[Watch]:
    """Every task and batch of classes that anybody draws meanwhile."""
    watch, episodes, batch = Watch(), ClassTasks.episodes, ClassBatches.batch

    def drawn(self: ClassTasks, indices: range | Integers) -> Episode:
        found = episodes(self, indices)
        watch.saw(self, found.classes)
        return found

    def given(self: ClassBatches, step: int) -> Examples:
        found = batch(self, step)
        watch.saw(self, found.y)
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClassTasks, "episodes", drawn)
        patch.setattr(ClassBatches, "batch", given)
        yield watch


def seen_by_training(recipe: str, runs: Path, **more: Any) -> dict[str, set[int]]:
    """Twenty steps with two validations, and everything that they drew."""
    small: dict[str, Any] = {
        "train.steps": 20,
        "train.validate-every": 10,
        "train.validate-episodes": 4,
        "net.filters": 4,
    }
    small |= {"data.name": "glyphs", "data.size": 28, **more}
    with watched() as watch:
        quickstudy.train(recipe, overrides=small, runs=runs, device="cpu", ranks=1)
    return watch.classes


def of_the_test(data: Glyphs) -> set[int]:
    return set(data.classes("test"))


SMALL = {"episodes.train.way": 3, "episodes.train.query": 2, "episodes.test.way": 3, "episodes.test.query": 2}
LEARNERS = [
    ("glyphs-protonet-fast", {**SMALL, "train.tasks-per-step": 1}),
    ("glyphs-maml-fast", {**SMALL, "train.tasks-per-step": 2}),
    ("omniglot-baseline-fast", {"train.batch": 8, "learner.steps": 2}),
]


@pytest.mark.parametrize(("recipe", "more"), LEARNERS, ids=[name for name, _ in LEARNERS])
def test_training_and_choosing_draw_no_class_of_the_test(recipe: str, more: dict[str, Any], tmp_path: Path) -> None:
    found = seen_by_training(recipe, tmp_path, **more)
    assert set(found) == {"train", "validation"}, "another role was asked"
    test = of_the_test(Glyphs())
    assert len(found["train"]) > 20 and len(found["validation"]) >= 3
    assert not (found["train"] | found["validation"]) & test
    assert not found["train"] & found["validation"]


def test_a_validation_on_test_classes_would_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    roles = Glyphs.classes

    def leaky(self: Glyphs, role: str) -> list[int]:
        return roles(self, "test" if role == "validation" else role)

    monkeypatch.setattr(Glyphs, "classes", leaky)
    found = seen_by_training("glyphs-protonet-fast", tmp_path, **SMALL, **{"train.tasks-per-step": 1})
    assert found["validation"] and found["validation"] <= of_the_test(Glyphs()), "so the check above would have failed"


# --- what a sweep's workers draw, which are processes of their own ------------------------------

WATCHED = """
import json, os
import numpy as np
from quickstudy.data.classtasks import ClassTasks
from quickstudy.data.glyphs import Glyphs

episodes, roles = ClassTasks.episodes, Glyphs.classes

def drawn(self, indices):
    found = episodes(self, indices)
    seen = sorted({int(one) for one in np.unique(found.classes)} - {-1})
    with open(os.environ["WATCHED"], "a", encoding="utf-8") as file:
        file.write(json.dumps([os.getpid(), str(self.settings["split"]), seen]) + "\\n")
    return found

ClassTasks.episodes = drawn
if os.environ["PLANTED"]:
    Glyphs.classes = lambda self, role: roles(self, "test" if role == "validation" else role)
"""


def a_small_sweep(out: Path) -> Swept:
    small: dict[str, Any] = {"train.steps": 4, "train.validate-every": 2, "train.validate-episodes": 4}
    small |= {**SMALL, "train.tasks-per-step": 1, "net.filters": 4, "evaluate.episodes": 4}
    vary = {"train.lr": "log:0.001:0.1"}
    found = sweep("glyphs-protonet-fast", trials=2, workers=1, vary=vary, overrides=small, out=out, device="cpu")
    assert [trial.outcome for trial in found.trials] == ["finished", "finished"] and found.result is not None
    return found


def test_trials_of_a_sweep_draw_no_class_of_the_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that a worker does, here; and the one test of the best trial after all of them."""
    monkeypatch.setattr("quickstudy.sweeps.sweeping.Crew", InThisProcess)
    with watched() as watch:
        a_small_sweep(tmp_path / "sweep")
    test = of_the_test(Glyphs())
    assert set(watch.order) == {"train", "validation", "test"}
    first = watch.order.index("test")
    assert set(watch.order[first:]) == {"test"} and not (watch.classes["train"] | watch.classes["validation"]) & test


@pytest.mark.slow
@pytest.mark.parametrize("planted", ["", "a leak"])
def test_workers_of_a_sweep_draw_no_class_of_the_test(
    planted: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(WATCHED)
    record = tmp_path / "watched"
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("WATCHED", str(record))
    monkeypatch.setenv("PLANTED", planted)
    a_small_sweep(tmp_path / "sweep")
    found: dict[str, set[int]] = defaultdict(set)
    for line in record.read_text(encoding="utf-8").splitlines():
        process, split, classes = json.loads(line)
        assert process != os.getpid()
        found[split] |= set(classes)
    test = of_the_test(Glyphs())
    assert set(found) == {"train", "validation"} and found["train"] and not found["train"] & test
    assert found["validation"]
    if planted:
        assert found["validation"] <= test, "so the check below would have failed"
    else:
        assert not found["validation"] & test
