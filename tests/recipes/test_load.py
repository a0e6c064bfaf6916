"""A recipe's mistakes, each in one sentence that names the file or the option, the key, what was expected and found."""

import re
from pathlib import Path
from typing import Any

import pytest

from quickstudy.errors import InputError, UnknownName
from quickstudy.recipes import Recipe, load_recipe, parse_recipe
from quickstudy.registry import Registry

GOOD = """
name = "mine"
[learner]
name = "maml"
inner-steps = 1
[net]
name = "conv4"
[data]
name = "omniglot"
[episodes.train]
way = 5
shot = [1, 5]
query = 5
[episodes.test]
way = 5
shot = 1
query = 15
[train]
steps = 10
schedule = { name = "step", every = 5, factor = 0.5 }
"""


def parse(text: str = GOOD, **overrides: Any) -> Recipe:
    """`inner__lr=1` stands for the key `inner.lr`."""
    keys = {key.replace("__", ".").replace("_", "-"): value for key, value in overrides.items()}
    return parse_recipe(text, source="mine.toml", overrides=keys)


def test_every_default_is_written_out() -> None:
    recipe = parse()
    assert recipe.seed == 0
    assert recipe.learner.options["inner_lr"] == 0.1
    assert recipe.learner.options["inner_steps"] == 1
    assert recipe.episodes.train.shot == (1, 5)
    assert recipe.train.optimizer == "adam"
    assert recipe.data.options["split"] == "vinyals"


@pytest.mark.parametrize(
    ("learner", "transductive", "norm"),
    [("maml", False, "task"), ("maml", True, "transductive"), ("protonet", None, "batch")],
)
def test_the_learner_chooses_the_norm(learner: str, transductive: bool | None, norm: str) -> None:
    options: dict[str, Any] = {} if transductive is None else {"learner__transductive": transductive}
    recipe = parse(learner__name=learner, **options)
    assert recipe.net is not None
    assert recipe.net.options["norm"] == norm


def test_a_norm_that_is_given_stays() -> None:
    recipe = parse(net__norm="group")
    assert recipe.net is not None
    assert recipe.net.options["norm"] == "group"


def test_a_net_without_a_norm_by_default_gets_none() -> None:
    recipe = parse(net__name="mlp")
    assert recipe.net is not None
    assert recipe.net.options["norm"] == "none"


# (what is written in place of what, the sentence): a line a mistake, however long
# ruff: noqa: E501
MISTAKES = [
    ("inner-steps = 1", "inner-step = 1", "There is no key called 'learner.inner-step'. Did you mean 'learner.inner-steps'?"),
    ("inner-steps = 1", "inner_steps = 1", "There is no key called 'learner.inner_steps'. Did you mean 'learner.inner-steps'?"),
    ("inner-steps = 1", 'inner-steps = "one"', "learner.inner-steps: expected a whole number, found 'one'."),
    ("inner-steps = 1", "inner-steps = 1.5", "learner.inner-steps: expected a whole number, found 1.5."),
    ("inner-steps = 1", "inner-steps = true", "learner.inner-steps: expected a whole number, found True."),
    ("inner-steps = 1", "first-order = 1", "learner.first-order: expected true or false, found 1."),
    ("inner-steps = 1", "inner-lr = nan", "learner.inner-lr: expected a finite number, found nan."),
    ("inner-steps = 1", "inner-lr = '0.1'", "learner.inner-lr: expected a number, found '0.1'."),
    ("inner-steps = 1", "head = 'shred'", "learner.head: expected 'fixed', 'shared', 'proto' or 'none', found 'shred'."),
    ("inner-steps = 1", "outputs = 5", "There is no key called 'learner.outputs'."),
    ('"maml"', '"mamll"', "There is no learner called 'mamll'. Did you mean 'maml'?"),
    ('"maml"', "3", "learner.name: expected text, found 3."),
    ('name = "maml"', "", "learner.name is missing."),
    ('"conv4"', '"conv5"', "There is no network called 'conv5'. Did you mean 'conv4'?"),
    ('"omniglot"', '"omniglott"', "There is no data set called 'omniglott'. Did you mean 'omniglot'?"),
    ('[net]\nname = "conv4"', "", "the learner 'maml' needs a network; add a table [net] with its name."),
    ('[learner]\nname = "maml"\ninner-steps = 1', "", "learner is missing."),
    ('[data]\nname = "omniglot"', "", "data is missing."),
    ('name = "mine"', "", "name is missing."),
    ('name = "mine"', 'name = "a/b"', "name: expected letters, digits, '.', '_', '+' and '-' only, found 'a/b'."),
    ('name = "mine"', 'name = "mine"\nseed = -1', "seed: expected a number from 0 on, found -1."),
    ('name = "mine"', 'name = "mine"\nsed = 1', "There is no key called 'sed'. Did you mean 'seed'?"),
    ("steps = 10", "step = 10", "There is no key called 'train.step'. Did you mean 'train.steps'?"),
    ("steps = 10", "steps = 10\nlr = 0", "train.lr: expected a number above 0, found 0."),
    ("steps = 10", "steps = 10\nlr = 2024-01-01", "train.lr: expected a number, found datetime.date(2024, 1, 1)."),
    ("steps = 10", "steps = 10\nrole = 'train+validation'\nvalidate-every = 5", "train: cannot validate on classes that are trained on"),
    ('"step", every = 5, factor = 0.5', '"stap"', "train.schedule.name: expected 'constant', 'step', 'linear', 'cosine', 'torch', found 'stap'."),
    ("steps = 10", "steps = 10\npatience = 3", "train: patience counts validations, and there are none: set validate-every"),
    ("steps = 10", "steps = 10\nwarmup = 10", "train: warmup = 10 leaves none of 10 steps for the schedule; take fewer"),
    ("steps = 10", "steps = 10\naverage = { name = 'mean' }", "train.average.name: expected 'ema' or 'swa', found 'mean'."),
    ("steps = 10", "steps = 10\nclip-norm = 0", "train.clip-norm: expected a number above 0, found 0."),
    ("every = 5, ", "", "train.schedule.every is missing."),
    ("every = 5", "evry = 5", "There is no key called 'train.schedule.evry'. Did you mean 'train.schedule.every'?"),
    ('{ name = "step", every = 5, factor = 0.5 }', '3', "train.schedule: expected a table, found 3."),
    ('{ name = "step", every = 5, factor = 0.5 }', '"cosin"', "train.schedule: expected 'constant', 'step', 'linear', 'cosine', 'torch', found 'cosin'."),
    ('{ name = "step", every = 5, factor = 0.5 }', '"step"', "train.schedule.every is missing."),
    ("steps = 10", 'steps = 10\naverage = "emma"', "train.average: expected 'ema' or 'swa', found 'emma'."),
    ("shot = [1, 5]", "shot = [5, 1]", "episodes.train.shot: Cannot draw tasks with shot = [5, 1]: expected a whole number from 1 on"),
    ("shot = [1, 5]", "shots = 5", "There is no key called 'episodes.train.shots'. Did you mean 'episodes.train.shot'?"),
    ("shot = [1, 5]", "", "episodes.train.shot is missing."),
    ("[episodes.test]", "[episodes.tset]", "There is no key called 'episodes.tset'. Did you mean 'episodes.test'?"),
    ("[train]\nsteps = 10", "[trian]\nsteps = 10", "train is missing."),
    ("[learner]", "learner = 3\n[lerner]", "learner: expected a table, found 3."),
]  # fmt: skip


def test_sizes_that_are_left_out_can_be_overridden_one_by_one() -> None:
    """A table that is left out is as another; to change its way is not to leave out its shot."""
    start, end = GOOD.index("[episodes.train]"), GOOD.index("[episodes.test]")
    recipe = parse(GOOD[:start] + GOOD[end:], episodes__train__way=20, episodes__validation__shot=3)
    train, validation, test = recipe.episodes.train, recipe.episodes.validation, recipe.episodes.test
    assert (train.way, train.shot, train.query) == (20, 1, 15)
    assert validation is not None and (validation.way, validation.shot, validation.query) == (5, 3, 15)
    assert (test.way, test.shot, test.query) == (5, 1, 15)
    other = parse(GOOD[:end] + GOOD[GOOD.index("[train]\n") :], episodes__test__shot=2)
    assert (other.episodes.test.way, other.episodes.test.shot, other.episodes.test.query) == (5, 2, 5)
    assert other.episodes.train.shot == (1, 5)


@pytest.mark.parametrize(
    ("table", "entry", "sentence"),
    [
        (
            "learner",
            UnknownName,
            "the learner 'junk' is the class UnknownName, not an AbstractLearner; mend its package",
        ),
        ("net", UnknownName, "the network 'junk' is the class UnknownName, not a torch.nn.Module; mend its package"),
        ("data", 3, "the data set 'junk' is 3, which nothing can be built from; mend its package, or use another."),
    ],
)
def test_an_entry_of_another_kind(table: str, entry: Any, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another package may announce anything."""
    before = Registry.get

    def get(registry: Registry, name: str) -> Any:
        return entry if name == "junk" else before(registry, name)

    monkeypatch.setattr(Registry, "get", get)
    with pytest.raises(InputError, match=re.escape(f"--{table}.name: {sentence}")) as refused:
        parse(**{f"{table}__name": "junk"})
    assert "takes no network" not in str(refused.value) and len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(("good", "bad", "sentence"), MISTAKES, ids=[bad[:30] for _, bad, _ in MISTAKES])
def test_a_mistake_is_told_in_a_sentence(good: str, bad: str, sentence: str) -> None:
    assert good in GOOD
    with pytest.raises(InputError, match=r"(?m)^(  )?" + re.escape(f"mine.toml: {sentence}")):
        parse(GOOD.replace(good, bad, 1))


def test_what_is_no_toml() -> None:
    with pytest.raises(InputError, match=r"^mine\.toml is not TOML: .* \(at line 3, column 9\)\.$"):
        parse(GOOD.replace("[learner]", "[learner"))


@pytest.mark.parametrize(("good", "bad"), [('"maml"', "3"), ('name = "maml"', ""), ("steps = 10", "steps = -1")])
def test_one_mistake_is_told_once(good: str, bad: str) -> None:
    with pytest.raises(InputError, match=r"^mine\.toml: .*\.$"):
        parse(GOOD.replace(good, bad, 1))


def test_all_mistakes_at_once() -> None:
    text = GOOD.replace("steps = 10", "steps = -1\nlr = -1").replace('"maml"', '"mamll"')
    with pytest.raises(InputError, match=r"^3 mistakes in this recipe\.\n") as caught:
        parse(text)
    lines = str(caught.value).splitlines()[1:]
    assert [line.split(":")[1].split(". ")[0].strip() for line in lines] == [
        "There is no learner called 'mamll'",
        "train.lr",
        "train.steps",
    ]


OVERRIDES = [
    ({"learner.inner-lrr": "0.2"}, "--learner.inner-lrr: There is no key called 'learner.inner-lrr'. Did you mean"),
    ({"train.steps": "many"}, "--train.steps: expected a whole number, found 'many'."),
    ({"train.steps.x": "3"}, "--train.steps.x: train.steps is not a table, so train.steps.x cannot be set."),
    ({"train.schedule.name": "stap"}, "--train.schedule.name: expected 'constant'"),
    ({"train.schedule.name": "linear", "train.schedule.every": "3"}, "--train.schedule.every: There is no key"),
    ({"data.splt": "maml"}, "--data.splt: There is no key called 'data.splt'. Did you mean 'data.split'?"),
    ({"nets.name": "mlp"}, "--nets.name: There is no key called 'nets'. Did you mean 'net'?"),
    ({"episodes.train.way": "[5, 2]"}, "--episodes.train.way: Cannot draw tasks with way = [5, 2]"),
]


@pytest.mark.parametrize(("overrides", "sentence"), OVERRIDES, ids=[next(iter(o)) for o, _ in OVERRIDES])
def test_a_mistake_on_the_command_line_names_the_option(overrides: dict[str, str], sentence: str) -> None:
    with pytest.raises(InputError, match="^" + re.escape(sentence)):
        parse_recipe(GOOD, source="mine.toml", overrides=overrides)


def test_a_name_stands_for_its_table() -> None:
    short = parse(train__schedule="cosine", train__average="swa")
    assert short == parse(train__schedule={"name": "cosine"}, train__average={"name": "swa"})
    assert short.train.schedule.name == "cosine"
    assert short.train.average is not None


def test_a_learner_without_a_network() -> None:
    assert parse(GOOD.replace('[net]\nname = "conv4"', ""), learner__name="knn").net is None


def test_a_path_counts_from_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "folder" / "mine.toml"
    file.parent.mkdir()
    file.write_text(GOOD.replace('name = "omniglot"', 'name = "omniglot"\npath = "../here"'))
    recipe = load_recipe(file)
    assert Path(recipe.data.options["path"]).resolve() == (tmp_path / "here").resolve()
    monkeypatch.chdir(tmp_path)
    from_outside = load_recipe("folder/mine.toml", {"data.path": "there"})
    assert Path(from_outside.data.options["path"]) == tmp_path / "there"


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"There is no recipe file .*none\.toml\. `quickstudy list recipes` names"):
        load_recipe(tmp_path / "none.toml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"Cannot read the recipe file .*mine\.toml: .*utf-8"):
        load_recipe(tmp_path / "mine.toml")


def test_a_name_that_is_not_known() -> None:
    with pytest.raises(
        UnknownName, match=r"There is no recipe called 'sinusoid-mmal'\. Did you mean 'sinusoid-maml'\?"
    ):
        load_recipe("sinusoid-mmal")
    with pytest.raises(UnknownName, match=r"'nothere'\. .*Of \d{3} known the nearest: (\S+, ){4}\S+\.$"):
        load_recipe("nothere")


def test_the_smallest_recipe_of_the_architecture_page() -> None:
    """It parses as printed, and is tested on tasks as large as those it trains on."""
    page = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```toml\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    recipe = parse_recipe(block, source="architecture.md")
    assert recipe.episodes.test == recipe.episodes.train
