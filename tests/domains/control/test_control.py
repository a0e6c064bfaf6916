"""From a recipe to a result: trained, gone on with, tested, compared, reported."""

import json
import os
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from quickstudy import api
from quickstudy.data.controltasks import ControlTasks, HalfCheetahDirection, HalfCheetahVelocity, PointNavigation
from quickstudy.data.environments import environment
from quickstudy.domains.control.baselines import RandomActions, from_scratch, oracle
from quickstudy.domains.control.pictures import moving, point_rollouts, return_curves
from quickstudy.domains.control.stablebaselines import StableBaselinesPPO
from quickstudy.domains.study import study
from quickstudy.errors import InputError, RunError
from quickstudy.evaluate import meta_test
from quickstudy.keys import Keys
from quickstudy.learners.parts.agents import AbstractAgent
from quickstudy.learners.parts.rollouts import leaf
from quickstudy.recipes import build, load_recipe
from quickstudy.train import Silent, StepEvent, fit

STUDIES = ("control", "control-cheetah", "control-cheetah-direction")
SMALL: dict[str, Any] = {
    "data.horizon": 5,
    "learner.trajectories": 3,
    "episodes.train.shot": 3,
    "episodes.train.query": 3,
    "episodes.test.shot": 6,
    "episodes.test.query": 3,
    "train.tasks-per-step": 3,
    "train.steps": 4,
    "net.hidden": [8],
}


def generators() -> tuple[str, str, list[int]]:
    """Where the global ones stand."""
    return str(random.getstate()), str(np.random.get_state()), torch.get_rng_state().tolist()


def test_a_run_goes_on_bit_for_bit_and_is_tested(tmp_path: Path) -> None:
    states = generators()
    whole = api.train("point-navigation-maml-fast", overrides=SMALL, runs=tmp_path / "whole")
    part = api.train("point-navigation-maml-fast", overrides={**SMALL, "train.steps": 2}, runs=tmp_path / "part")
    on = api.train(part.path, overrides={"train.steps": 4}, resume=True)
    for (name, a), b in zip(whole.learner.state_dict().items(), on.learner.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    records = [json.loads(line) for line in whole.folder.metrics.read_text().splitlines()]
    assert {"return", "return_before", "step_share"} <= set(records[0])
    result = api.evaluate(whole.path, episodes=6)
    assert result.metric == "return" and len(result.per_episode) == 6
    assert list(result.others) == ["return@0", "return@1", "return@2", "env-steps"]
    assert result.others["env-steps"].mean <= 2 * 3 * 5
    assert result.mean == result.others["return@2"].mean < 0
    again = api.evaluate(whole.path, episodes=6, tasks_at_once=2)
    assert again.per_episode == pytest.approx(result.per_episode, abs=1e-6)
    loaded = api.load(whole.path)
    assert isinstance(loaded, AbstractAgent) and loaded.world.horizon == 5
    assert "point-navigation" in (whole.path / "report.html").read_text()
    assert generators() == states


@pytest.mark.parametrize("learner", ["reptile-rl", "rl2", "grbal"])
def test_the_other_learners_are_trained_by_the_same_recipe(learner: str, tmp_path: Path) -> None:
    text = load_text(learner)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(text)
    run = api.train(recipe, runs=tmp_path)
    result = api.evaluate(run.path, episodes=3)
    assert result.metric == "return" and np.isfinite(result.per_episode).all()
    assert list(result.others)[:3] == ["return@0", "return@1", "return@2"]


def load_text(learner: str) -> str:
    net = "" if learner in ("rl2", "grbal") else '[net]\nname = "mlp"\nhidden = [8]\n'
    return f"""name = "mine"
[learner]
name = "{learner}"
trajectories = 3
{net}
[data]
name = "point-navigation"
horizon = 5
[episodes.train]
shot = 3
query = 3
[episodes.test]
shot = 6
query = 3
[train]
steps = 2
tasks-per-step = 2
optimizer = "sgd"
lr = 1.0
"""


@pytest.mark.parametrize(
    "wrong", [{"train.optimizer": "adam"}, {"train.lr": 0.1}, {"train.momentum": 0.9}, {"train.weight-decay": 0.1}]
)
def test_an_outer_step_that_is_computed_is_made_as_it_is(wrong: dict[str, Any], tmp_path: Path) -> None:
    """Adam or another rate would make something else of a trust region's step, without a word."""
    with pytest.raises(InputError, match=r"MAMLRL computes its outer step itself.* optimizer = 'sgd' and lr = 1\.0"):
        api.train("point-navigation-maml-fast", overrides={**SMALL, **wrong}, runs=tmp_path)
    free = {**SMALL, **wrong, "learner.outer": "gradient", "train.steps": 1}
    assert api.train("point-navigation-maml-fast", overrides=free, runs=tmp_path).folder.metrics.is_file()


def test_an_oracle_is_trained_on_as_many_steps_as_the_recipes() -> None:
    training = PointNavigation(horizon=5).tasks("train", shot=3, query=3, seed=0)
    with pytest.MonkeyPatch.context() as patch:
        seen: list[tuple[Any, ControlTasks, dict[str, Any]]] = []
        patch.setattr("quickstudy.domains.control.baselines.fit", lambda *what, **how: seen.append((*what, how)))
        for name in STUDIES:
            found = study(name)
            (rival,) = (rival for rival in found.rivals if rival.name.startswith("oracle"))
            rival.build(training.shape, training)
            assert found.plain is not None
            plain, (learner, source, how) = load_recipe(found.plain), seen[-1]
            assert source.episodes(range(1)).query.n_example == plain.episodes.train.query
            options = ("outer", "epochs", "curvature_share", "discount", "gae_lambda", "outer_lr", "inner_steps")
            assert [getattr(learner, name) for name in options] == [plain.learner.options[name] for name in options]
            assert learner.policy.log_std.unique().tolist() == [plain.learner.options["log_std"]]
            assert (how["steps"], how["tasks_per_step"]) == (plain.train.steps, plain.train.tasks_per_step)


def test_ranks_divide_the_tasks_of_a_test(tmp_path: Path) -> None:
    run = api.train("point-navigation-maml-fast", overrides={**SMALL, "train.steps": 1}, runs=tmp_path)
    one = api.evaluate(run.path, episodes=20, report=False)
    source = ControlTasks(PointNavigation(horizon=5).environment, split="test", shot=6, query=3, seed=0)
    assert one.per_episode == meta_test(run.learner, source, episodes=20).per_episode


def test_a_policy_is_neither_trained_nor_tested_in_another_environment(tmp_path: Path) -> None:
    """It acts in its own, and the result would be named after the other."""
    run = api.train("point-navigation-maml-fast", overrides={**SMALL, "train.steps": 1}, runs=tmp_path)
    with pytest.raises(InputError, match="these tasks have horizon = 7 and not 5"):
        api.evaluate(run.path, episodes=3, overrides={"data.horizon": 7})
    direction = HalfCheetahDirection(horizon=5).tasks("train", shot=3, query=3, seed=0)
    velocity = HalfCheetahVelocity(horizon=5).tasks("test", shot=3, query=3, seed=0)
    learner = from_scratch(direction.shape, trajectories=3, inner_lr=0.5)
    with pytest.raises(InputError, match="name = 'half-cheetah-velocity' and not 'half-cheetah-direction'"):
        meta_test(learner, velocity, episodes=3)
    with pytest.raises(InputError, match="name = 'half-cheetah-velocity' and not"):
        fit(learner, velocity, steps=1, optimizer="sgd", lr=1.0)


# --- leaks -----------------------------------------------------------------------------------------------


def small() -> tuple[AbstractAgent, ControlTasks]:
    built = build(load_recipe("point-navigation-maml-fast", SMALL))
    learner = built.learner
    assert isinstance(learner, AbstractAgent)
    return learner, PointNavigation(horizon=5).tasks("test", shot=6, query=3, seed=0)


def test_nothing_of_the_task_is_seen_but_through_rewards() -> None:
    """With the same noise a policy that has not adapted does the same whatever the goal is."""
    learner, source = small()
    episode = source.episodes(range(3))
    assert isinstance(episode.query.x, dict)
    elsewhere = type(episode.query)(
        {**episode.query.x, "task": episode.query.x["task"].flip(0)}, None, episode.query.target
    )
    state, keys = learner.begin(3), Keys.default(3)
    a, b = (learner.play(state, rows, keys) for rows in (episode.query, elsewhere))
    assert torch.equal(leaf(a, "action"), leaf(b, "action")) and not torch.equal(leaf(a, "reward"), leaf(b, "reward"))


def test_the_returns_of_the_query_teach_nothing() -> None:
    """What is measured depends on the support's trajectories, not on which others are measured."""
    learner, source = small()
    episode, keys = source.episodes(range(3)), Keys.default(3)
    state = learner.adapt(episode.support, key=keys)
    before = {name: value.clone() for name, value in state.params.items()}
    whole = learner.predict(state, episode.query, key=keys)
    part = learner.predict(state, episode.query.rows(slice(0, 2)), key=keys)
    assert all(torch.equal(before[name], value) for name, value in state.params.items())
    torch.testing.assert_close(whole[:, :2], part)


# --- baselines and the report ------------------------------------------------------------------------------


def test_baselines_are_tested_like_learners() -> None:
    _, source = small()
    training = PointNavigation(horizon=5).tasks("train", shot=3, query=3, seed=0)
    rivals = {
        "random": RandomActions(source.shape, 3),
        "scratch": from_scratch(source.shape, trajectories=3, inner_lr=0.5),
        "oracle": oracle(source.shape, training, trajectories=3, steps=2, tasks_per_step=2),
    }
    results = {name: {"goals": meta_test(rival, source, episodes=4)} for name, rival in rivals.items()}
    others = results["random"]["goals"].others
    assert others["return@0"] == others["return@2"]
    assert results["oracle"]["goals"].others["return@0"] == results["oracle"]["goals"].others["return@2"]
    assert rivals["oracle"].world.observation == 4
    section = return_curves(results)
    assert section.head == ("", "0 steps", "1 step", "2 steps") and len(section.rows) == 3
    assert "random: " in section.drawings[0].alt
    with pytest.raises(InputError, match="trained on environments, received list"):
        oracle(source.shape, [], trajectories=3, steps=2, tasks_per_step=2)  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore")  # the package's own
def test_ppo_of_stable_baselines_learns_a_task_and_leaves_generators_alone() -> None:
    pytest.importorskip("stable_baselines3")
    source = PointNavigation(horizon=20).tasks("test", shot=40, query=3, seed=0)
    states = generators()
    learner = StableBaselinesPPO(source.shape, 20, epochs=2)
    episode = source.episodes(range(2))
    first, second = (learner.adapt(episode.support, key=Keys.default(2)) for _ in range(2))
    assert generators() == states
    assert first.taken.tolist() == [800.0, 800.0] and len(first.earlier) == 2
    for name, value in first.params.items():
        assert torch.equal(value, second.params[name])
        assert not torch.equal(value[0], value[1]) or name == "log_std"
    assert learner.predict(first, episode.query).shape == (2, 3, 4)
    with pytest.raises(InputError, match="runs its own trajectories"):
        learner.adapt(episode.support, state=first)


def test_rollouts_are_moving_pictures() -> None:
    learner, source = small()
    section = point_rollouts(learner, source)
    assert len(section.pictures) == 3
    data, words = section.pictures[0]
    assert data.startswith(b"GIF8") and "before adaptation (left) and after (right)" in words
    frames = moving([np.full((4, 4, 3), level, dtype=np.uint8) for level in (0, 128, 255)])
    import io

    assert Image.open(io.BytesIO(frames)).n_frames == 3  # type: ignore[attr-defined]


def test_studies_name_recipes_that_ship() -> None:
    for name in STUDIES:
        found = study(name)
        assert found.episodes >= 40
        for recipe in (found.recipe, found.plain, *found.also):
            assert recipe is not None
            assert load_recipe(recipe).evaluate.episodes >= 40


# --- bad input -----------------------------------------------------------------------------------------------


def test_a_learner_that_acts_needs_an_environment() -> None:
    with pytest.raises(InputError, match=r"acts in an environment, and these tasks, .* have none"):
        build(load_recipe("sinusoid-fine-tune-fast", {"learner.name": "reptile-rl"}))


def test_a_learner_of_examples_cannot_act() -> None:
    learner, _ = small()
    with pytest.raises(InputError, match="trained on environments, whose trajectories it runs itself"):
        learner.meta_loss(build(load_recipe("sinusoid-maml")).train.episodes(range(2)))


def test_tracing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"cannot be traced\. Say compile = 'no'"):
        api.train("point-navigation-maml-fast", overrides={**SMALL, "train.compile": "trace"}, runs=tmp_path)


def test_the_environment_on_the_page_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page's own environments, word for word, with fewer steps."""
    cart, module, script = page_code()
    (tmp_path / "cart.py").write_text(cart)
    (tmp_path / "arm.py").write_text(module)
    monkeypatch.syspath_prepend(tmp_path)
    said: list[str] = []
    short = (
        script.replace("steps=20", "steps=2")
        .replace("tasks_per_step=10", "tasks_per_step=2")
        .replace("episodes=40", "episodes=4")
    )
    exec(short, {"print": lambda result: said.append(str(result))})
    assert said[0].startswith("return −") and "MAMLRL on arm:Slope, test, 20-shot" in said[0]


def page_code() -> list[str]:
    page = (Path(__file__).parents[3] / "docs" / "domains" / "control.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)


SMALL_OWN = [f"--{key}={json.dumps(value)}" for key, value in SMALL.items()]


@pytest.mark.parametrize(
    "named",
    [
        ["--environment", "Pendulum-v1", "--data.vary.g", "[5, 15]", "--data.vary.max_speed", "[7, 8]"],
        ["--environment", "cart:Cart"],
        ["--environment", "arm:Slope"],
    ],
    ids=["Gymnasium's", "a class of Gymnasium's kind", "many at once"],
)
def test_an_environment_is_named_on_the_command_line(named: list[str], tmp_path: Path) -> None:
    """From the current folder, which the installed command does not look for modules in (``-P`` stands for that)."""
    pytest.importorskip("gymnasium")
    cart, module, _ = page_code()
    (tmp_path / "cart.py").write_text(cart)
    (tmp_path / "arm.py").write_text(module)

    def quickstudy(*arguments: str) -> str:
        command = [sys.executable, "-P", "-c", "from quickstudy.cli import main; main()", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run = quickstudy("train", "environment-maml-fast", *named, *SMALL_OWN).strip()
    assert quickstudy("evaluate", run, "--episodes", "4").startswith("return ")
    quickstudy("train", run, "--resume", "--steps", "5")
    recipe, page = ((tmp_path / run / name).read_text() for name in ("recipe.toml", "report.html"))
    assert f'environment = "{named[1]}"' in recipe and "Return after each step of adaptation" in page


@pytest.mark.skipif(os.name != "posix", reason="a process of one's own can be killed so on POSIX alone")
def test_nothing_is_lost_when_a_worker_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    (cart, *_), dies = page_code(), tmp_path / "dies"
    line = "place, speed = self.state\n"
    deadly = "import os\n" + cart.replace(line, f"os.path.exists({str(dies)!r}) and os._exit(3)\n        {line}")
    (tmp_path / "deadly.py").write_text(deadly)
    monkeypatch.syspath_prepend(tmp_path)

    class Deadly(Silent):
        def step(self, event: StepEvent) -> None:
            if event.step == 2:
                dies.touch()

    given: dict[str, Any] = {**SMALL, "data.name": "environment", "data.environment": "deadly:Cart"}
    whole = api.train("environment-maml-fast", overrides=given, runs=tmp_path / "whole")
    with pytest.raises(RunError, match=r"worker process of the simulator ended with status 3: .* --resume"):
        api.train("environment-maml-fast", overrides=given, runs=tmp_path, callbacks=[Deadly()])
    dies.unlink()
    on = api.train(next(tmp_path.glob("environment-*")), resume=True)
    for a, b in zip(whole.learner.state_dict().values(), on.learner.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_a_trust_region_is_not_divided(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one step of all tasks together"):
        api.train("point-navigation-maml-fast", overrides={**SMALL, "train.tasks-at-once": 2}, runs=tmp_path)
    one = api.train("point-navigation-maml-fast", overrides={**SMALL, "train.steps": 1}, runs=tmp_path, ranks="auto")
    assert json.loads((one.path / "environment.json").read_text())["ranks"] == 1


@pytest.mark.slow
def test_two_ranks_make_the_same_step(tmp_path: Path) -> None:
    short = {**SMALL, "train.steps": 1}
    runs = [api.train("point-navigation-maml-fast", overrides=short, runs=tmp_path, ranks=n) for n in (1, 2)]
    for a, b in zip(*(run.learner.state_dict().values() for run in runs), strict=True):
        assert torch.equal(a, b)


def test_without_a_display_pictures_are_refused_before_mujoco_complains(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gymnasium")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    frames = environment({"name": "half-cheetah-velocity"}).frames(
        torch.tensor([1.0]), 3, torch.zeros(5, 6), every=1, size=64
    )
    with pytest.raises(RuntimeError, match=r"there is no display, and MUJOCO_GL is not set"):
        list(frames or ())
