"""What a sweep varies: ranges, files, and what suits a learner."""

from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import InputError
from quickstudy.recipes import load_recipe, to_toml
from quickstudy.sweeps import Dimension, default_space, read_dimension
from quickstudy.sweeps.space import check_space, read_search


class Drawn:
    """Stands in for a trial: answers with the upper end, and says what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.asked.append((name, low, high, log))
        return high

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int:
        self.asked.append((name, low, high, log))
        return high

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        self.asked.append((name, *choices))
        return choices[-1]


@pytest.mark.parametrize(
    ("given", "asked", "value"),
    [
        ("log:0.01:1", ("k", 0.01, 1.0, True), 1.0),
        ("float:-1:0.5", ("k", -1.0, 0.5, False), 0.5),
        ("int:1:10", ("k", 1, 10, False), 10),
        ("intlog:1:1e3", ("k", 1, 1000, True), 1000),
        ("choice:task,group", ("k", "task", "group"), "group"),
        ("choice:[40, 40],[64]", ("k", "[40, 40]", "[64]"), [64]),
        ([True, 2], ("k", True, 2), 2),
    ],
)
def test_a_range_is_drawn_from(given: Any, asked: tuple[Any, ...], value: Any) -> None:
    trial = Drawn()
    one = read_dimension("k", given)
    assert one.suggest(trial) == value
    assert trial.asked == [asked]
    assert [type(found) for found in trial.asked[0]] == [type(found) for found in asked]
    again = read_dimension("k", one.record()["range"])
    assert again == one


def test_a_range_is_written_so_that_it_is_read_back() -> None:
    one = Dimension("k", "log", 1.23456789e-5, 1234567.25)
    assert read_dimension("k", str(one)) == one
    assert str(read_dimension("k", "log:0.010:1.0")) == "log:0.01:1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("0.01:1", r"Cannot vary k over '0.01:1': expected a range such as log:0.01:1, float"),
        ("log:0.01", r"expected two numbers, as in log:0.01:1"),
        ("int:1:2.5", r"expected two whole numbers, as in int:1:10"),
        ("log:1:nan", r"expected two numbers"),
        ("log:1:0.1", r"the first number must be below the second"),
        ("log:0:1", r"on a logarithmic scale numbers are above 0, found 0\. Take a small one, or float:0:1"),
        ("choice:a", r"a choice needs two different values or more, found \['a'\]"),
        ("choice:a,a", r"two different values"),
        (3, r"Cannot vary k over 3: expected a range"),
    ],
)
def test_what_is_no_range(given: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_dimension("k", given)


def test_a_file_has_the_tables_of_a_recipe(tmp_path: Path) -> None:
    file = tmp_path / "search.toml"
    file.write_text(
        '[train]\nlr = "log:1e-4:1e-2"\n[net]\nnorm = ["task", "group"]\n[data.vary]\nspeed = "float:0:1"\n'
    )
    found = {one.key: str(one) for one in read_search(file)}
    assert found == {
        "train.lr": "log:0.0001:0.01",
        "net.norm": "choice:task,group",
        "data.vary.speed": "float:0:1",
    }
    file.write_text("")
    with pytest.raises(InputError, match="is empty"):
        read_search(file)
    with pytest.raises(InputError, match=r"Cannot read the search space .*none\.toml"):
        read_search(tmp_path / "none.toml")
    file.write_text("lr = ")
    with pytest.raises(InputError, match="Give the path of a TOML file"):
        read_search(file)


@pytest.mark.parametrize(
    ("key", "given", "said"),
    [
        ("learner.inner-lrr", "log:0.1:1", r"Did you mean 'learner.inner-lr'\?"),
        ("learner.inner-steps", "float:0.5:3", r"Cannot vary learner.inner-steps over float:0.5:3: expected a whole"),
        ("net.norm", "choice:task,nonsense", r"Cannot vary net.norm over choice:task,nonsense"),
        ("train.lr", "float:-1:1", r"Cannot vary train.lr .* above 0"),
        ("seed", "int:0:9", r"Cannot vary seed: it decides by what, or on what, trials are measured"),
        ("train.validate-episodes", "int:2:9", r"Set it for all trials: --train.validate-episodes VALUE"),
        ("evaluate.episodes", "int:2:9", r"Cannot vary evaluate.episodes: it decides"),
        ("episodes.test.shot", "int:1:5", r"Cannot vary episodes.test.shot: it decides"),
        ("data.name", "choice:sinusoid,glyphs", r"Cannot vary data.name: it decides"),
    ],
)
def test_keys_that_cannot_be_varied(key: str, given: str, said: str) -> None:
    base = to_toml(load_recipe("sinusoid-maml-fast"))
    with pytest.raises(InputError, match=said):
        check_space([read_dimension(key, given)], base)


def test_a_key_has_one_range() -> None:
    base, one = to_toml(load_recipe("sinusoid-maml-fast")), read_dimension("train.lr", "log:0.1:1")
    check_space([one], base)
    with pytest.raises(InputError, match=r"Cannot vary train.lr twice"):
        check_space([one, one], base)


@pytest.mark.parametrize(
    ("recipe", "overrides", "space"),
    [
        (
            "sinusoid-maml-fast",
            {},
            {"train.lr": "log:0.0003:0.03", "learner.inner-steps": "int:1:10", "learner.inner-lr": "log:0.001:0.1"},
        ),
        ("sinusoid-maml-fast", {"learner.inner-steps": 1}, {"learner.inner-steps": "int:1:5"}),
        ("omniglot-maml-5w1s", {"learner.head": "shared"}, {"learner.inner-steps": "int:2:6"}),
        ("omniglot-knn-5w1s", {}, {"learner.k": "int:1:5"}),
    ],
)
def test_what_suits_a_learner(recipe: str, overrides: dict[str, Any], space: dict[str, str]) -> None:
    resolved = load_recipe(recipe, overrides)
    found = {one.key: str(one) for one in default_space(resolved)}
    assert found | space == found
    check_space(default_space(resolved), to_toml(resolved))


def test_a_step_that_is_the_gradient_keeps_its_rate() -> None:
    recipe = load_recipe("sinusoid-maml-fast")
    assert "train.lr" not in {one.key for one in default_space(recipe, whole_step=True)}


def test_a_learner_with_nothing_to_vary_says_so() -> None:
    recipe = load_recipe("sinusoid-cnp-fast", {"train.steps": 0})
    with pytest.raises(InputError, match=r"nothing that a sweep of sinusoid-cnp-fast would vary by itself"):
        default_space(recipe)


@pytest.mark.parametrize(
    ("given", "value", "inside"),
    [
        *[("log:0.1:1", 0.1, True), ("log:0.1:1", 2.0, False), ("int:1:5", 2.5, False), ("int:1:5", True, False)],
        *[("choice:a,b", "a", True), ("choice:a,b", None, False), ("float:0:1", None, False)],
    ],
)
def test_whether_a_value_lies_inside(given: str, value: Any, inside: bool) -> None:
    assert read_dimension("k", given).holds(value) is inside
