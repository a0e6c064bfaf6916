"""Gymnasium's environments as families of tasks: those that it has, and one's own; and what cannot be used."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.controltasks import OwnEnvironment
from quickstudy.data.environments import environment
from quickstudy.errors import InputError, RunError
from quickstudy.keys import Keys
from quickstudy.learners.parts.rollouts import collect

gymnasium = pytest.importorskip("gymnasium")
pytestmark = pytest.mark.filterwarnings("ignore")  # Gymnasium's own

OWN = """
import os
import gymnasium
import numpy as np
from gymnasium.spaces import Box, Dict, Discrete

class Cart(gymnasium.Env):
    observation_space, action_space = Box(-9, 9, (2,), np.float64), Box(-3.0, 5.0, (1,), np.float32)
    mass, label, broken = 1.0, "heavy", ""
    vary = {"mass": (0.5, 2.0)}

    def __init__(self, gain=1.0):
        self.gain = gain

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.state = 0, self.np_random.uniform(-1, 1, 2)
        return np.full(2, np.nan) if self.broken == "begins" else self.state, {}

    def step(self, action):
        self.t += 1
        assert action.shape == (1,) and -3 <= action[0] <= 5 and action.dtype == np.float32
        if self.broken == "raises" and self.t == 2:
            return 1 / 0
        if self.broken == "dies" and self.t == 2:
            os._exit(7)
        obs = np.zeros(3) if self.broken == "shape" else self.state * (np.inf if self.broken == "obs" else 1)
        reward = np.nan if self.broken == "reward" else self.gain * self.mass * float(action[0])
        return obs, reward, self.t == 3, False, {}

def broken(how):
    return type(how, (Cart,), {"broken": how})

Begins, Raises, Dies, Shape, Obs, Reward = map(broken, ("begins", "raises", "dies", "shape", "obs", "reward"))

def make():
    return Cart()

def nothing():
    return {"mass": 1}

def fails():
    raise RuntimeError("no display")

class Choices(Cart):
    action_space = Discrete(2)

class Parts(Cart):
    observation_space = Dict({"place": Box(-1, 1, (2,))})

class Unbounded(Cart):
    action_space = Box(-np.inf, np.inf, (1,))

class Still(Cart):
    vary = {}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with the above, another one in each test."""
    name = re.sub(r"\W", "_", f"own_{tmp_path.name}")
    (tmp_path / f"{name}.py").write_text(OWN)
    (tmp_path / f"{name}_wrong.py").write_text("import gymnasium\n\n1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    return name


def run(data: OwnEnvironment, workers: int = 0, n: int = 2) -> dict[str, torch.Tensor]:
    """Trajectories of three tasks, by actions that hang on the time alone."""
    world = environment({**data.environment.description, "workers": workers})
    asked = data.tasks("test", shot=n, query=1, seed=0).episodes(range(3)).support
    moves = iter(torch.linspace(-1.5, 1, world.horizon))
    acts = lambda obs: (next(moves).expand(3, n, world.action), torch.tensor(-50.0))  # noqa: E731
    found = collect(world, acts, asked, Keys.default(3)).x
    world.close()
    assert isinstance(found, dict) and isinstance(asked.x, dict)
    return {**found, **asked.x}


def test_a_task_is_the_environment_with_other_attributes() -> None:
    data = OwnEnvironment(environment="Pendulum-v1", vary={"g": (5, 15), "m": (0.5, 2)}, horizon=9)
    assert data.environment.parameters == ("g", "m") and data.shape == (3,)
    x = run(data)
    for t, n in ((0, 0), (1, 1), (2, 0)):
        env: Any = gymnasium.make("Pendulum-v1")
        env.unwrapped.g, env.unwrapped.m = x["task"][t, 0].tolist()
        assert 5 <= env.unwrapped.g <= 15 and 0.5 <= env.unwrapped.m <= 2
        obs, _ = env.reset(seed=int(x["seed"][t, n]))
        for step, move in enumerate(torch.linspace(-1.5, 1, 9).clamp(-1, 1).double().numpy()):
            np.testing.assert_allclose(x["obs"][t, n, step].numpy(), obs, atol=1e-6)
            obs, reward, *_ = env.step(np.array([2 * move], dtype=np.float32))
            assert float(x["reward"][t, n, step]) == pytest.approx(float(reward), abs=1e-5)


def test_worker_processes_change_nothing(own: str) -> None:
    data = OwnEnvironment(environment=f"{own}:Cart", horizon=5)
    here, there = (run(data, workers, n=8) for workers in (0, 2))
    for name, value in here.items():
        assert torch.equal(value, there[name]), name
    assert set(here["alive"].sum(2).flatten().tolist()) == {3}  # it ends a trajectory itself
    first = -3.0  # -1.5 is cut at -1, and -1 .. 1 laid out over -3 .. 5
    torch.testing.assert_close(here["reward"][:, :, 0], first * here["task"][:, :, 0])


def test_ways_to_name_it(own: str) -> None:
    for name, options in ((f"{own}:Cart", {"gain": 2.0}), (f"{own}:make", None)):
        data = OwnEnvironment(environment=name, options=options, horizon=3)
        assert data.environment.name == name and data.environment.parameters == ("mass",)
        assert environment(data.environment.description).description == data.environment.description
    other = OwnEnvironment(environment=f"{own}:Cart", vary={"gain": (1, 2)}, oracle=True)
    assert other.environment.parameters == ("gain",) and other.shape == (3,) and other.environment.horizon == 200


BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    "no name": ("", {}, "Which environment"),
    "a data set": ("point-navigation", {}, "is a data set of its own: say --data.name point-navigation"),
    "not registered": ("Pendulm-v1", {}, "'Pendulm-v1' cannot be made: NameNotFound: .*Pendulum"),
    "no such module": ("nowhere_at_all:make", {}, "cannot be imported: ModuleNotFoundError: No module named 'nowhere_"),
    "module that fails": ("OWN_wrong:make", {}, r"cannot be imported: ZeroDivisionError: .* \(\w+_wrong.py, line 3\)"),
    "not in the module": ("OWN:Cat", {}, "cannot be imported: AttributeError: .* has no attribute 'Cat'"),
    "no environment": ("OWN:nothing", {}, "gave a dict: an environment is a gymnasium.Env"),
    "cannot be made": ("OWN:fails", {}, r"cannot be made: RuntimeError: no display \(own_\w+.py, line \d+\)"),
    "an option it lacks": ("OWN:Cart", {"options": {"speed": 1}}, "cannot be made: TypeError: .*'speed'"),
    "options of a function": ("OWN:make", {"options": {"gain": 1}}, "a function, which is called without options"),
    "options that are ours": ("OWN:Cart", {"options": {"horizon": 1}}, "'horizon' is no option .* say --data.horizon"),
    "choices": ("OWN:Choices", {}, r"actions of .* are Discrete\(2\), .*TransformAction"),
    "parts": ("OWN:Parts", {}, r"observations of .* are Dict\(.*FlattenObservation"),
    "no bounds": ("OWN:Unbounded", {}, "have no bounds, .*RescaleAction"),
    "nothing varies": ("OWN:Still", {}, r"Nothing differs .* --data.vary.NAME '\[0.5, 2\]'. Numbers .*: gain, mass"),
    "no such attribute": ("OWN:Cart", {"vary": {"mas": (1, 2)}}, "no attribute 'mas' to vary: .*: gain, mass"),
    "no number": ("OWN:Cart", {"vary": {"label": (1, 2)}}, "Cannot vary 'label' .*: it is 'heavy', no number"),
    "no range": ("OWN:Cart", {"vary": {"mass": (2, 1)}}, r"'mass' .* over \[2, 1\]: expected \[lowest, highest\]"),
    "no step": ("OWN:Cart", {"horizon": 0}, "received horizon = 0"),
}


@pytest.mark.parametrize(("name", "options", "sentence"), BAD.values(), ids=BAD)
def test_what_cannot_be_used_is_told_in_a_sentence(name: str, options: dict[str, Any], sentence: str, own: str) -> None:
    with pytest.raises(InputError, match=sentence):
        OwnEnvironment(environment=name.replace("OWN", own), **options)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("Begins", "gave nan, which is no finite number, as observation of task 0, trajectory 0, at the start"),
        ("Reward", "gave nan, which is no finite number, as reward of task 0, trajectory 0, step 0"),
        ("Obs", "gave -?(inf|nan), which is no finite number, as observation of task 0, trajectory 0, step 0"),
        ("Shape", r"failed in step 0: it gave an observation of the shape \[3\], and its observation_space has \[2\]"),
        ("Raises", r"failed in step 1: ZeroDivisionError: division by zero \(own_\w+.py, line 24\)"),
    ],
)
def test_what_happens_on_the_way_is_told_in_a_sentence(name: str, sentence: str, workers: int, own: str) -> None:
    data = OwnEnvironment(environment=f"{own}:{name}", horizon=3)
    with pytest.raises(InputError, match=f"'{own}:{name}' {sentence}"):
        run(data, workers)


def test_a_worker_whose_environment_ends_the_process(own: str) -> None:
    with pytest.raises(RunError, match="A worker process of the simulator ended with status 7"):
        run(OwnEnvironment(environment=f"{own}:Dies", horizon=3), workers=1)


def test_nothing_but_environments_is_called_with_arguments() -> None:
    """A description may come with a run of somebody else's."""
    for described in ({"name": "os:system", "command": "exit 3"}, {"name": "builtins:exec", "source": "1 / 0"}):
        with pytest.raises(InputError, match="and an environment is a class derived from"):
            environment(described)
    with pytest.raises(InputError, match="called without options"):
        environment({"name": "gymnasium", "environment": "os:system", "options": {"command": "exit 3"}})


def test_frames_are_of_the_same_trajectory() -> None:
    pytest.importorskip("pygame")
    world = environment({"name": "gymnasium", "environment": "Pendulum-v1", "vary": {"g": [5, 15]}, "workers": 0})
    frames = list(world.frames(torch.tensor([9.0]), 3, torch.zeros(10, 1), every=5, size=64) or ())
    assert [frame.shape for frame in frames] == [(64, 64, 3)] * 2 and not np.array_equal(*frames)
