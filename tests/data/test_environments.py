"""Environments: what a trajectory is does not depend on what runs beside it, nor on worker processes."""

import builtins
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.controltasks import ControlTasks, HalfCheetahVelocity, PointNavigation
from quickstudy.data.environments import ENVIRONMENTS, AbstractEnvironment, Step, environment
from quickstudy.data.metaworldtasks import Push, Reach
from quickstudy.data.mujocotasks import AntBrokenJoints, HalfCheetahDirection
from quickstudy.errors import InputError, RunError, UnknownName
from quickstudy.keys import Key, Keys
from quickstudy.learners.parts.rollouts import collect


def fixed(action: int, t: int, seed: torch.Tensor) -> torch.Tensor:
    """Actions ``[T, N, A]`` that hang on the time and on the seed."""
    return torch.sin(torch.arange(action) + 0.7 * t + seed[..., None])


def played(world: AbstractEnvironment, task: Any, seed: Any, steps: int) -> tuple[Any, Any, Any]:
    """Observations, rewards and ends with fixed actions, ``[T, N, steps, ...]``."""
    running = world.start(torch.tensor(task), torch.tensor(seed))
    kept = []
    for t in range(steps):
        kept.append(running.step(fixed(world.action, t, torch.tensor(seed))))
    obs, reward, done = (torch.stack(leaves, 2) for leaves in zip(*kept, strict=True))
    return obs, reward, done


def test_points_move_as_written() -> None:
    world = environment({"name": "point-navigation", "horizon": 5})
    running = world.start(torch.tensor([[0.3, 0.0]]), torch.tensor([[0]]))
    assert running.observation.tolist() == [[[0.0, 0.0]]]
    far = running.step(torch.tensor([[[5.0, 0.0]]]))  # cut at 1
    assert far.observation[0, 0].tolist() == pytest.approx([0.1, 0.0])
    assert float(far.reward) == pytest.approx(-0.2) and not far.done
    running.step(torch.tensor([[[1.0, 0.05]]]))
    near = running.step(torch.tensor([[[0.95, 0.0]]]))
    assert float(near.reward) == pytest.approx(-np.hypot(0.005, 0.005), abs=1e-6) and bool(near.done)


def test_tasks_are_a_pure_function_of_their_number() -> None:
    source = PointNavigation(horizon=5).tasks("test", shot=4, query=3, seed=1)
    many, one = source.episodes(range(10)), source.episodes(range(7, 8))
    assert isinstance(many.support.x, dict) and isinstance(one.support.x, dict)
    for name, leaf in many.support.x.items():
        assert torch.equal(leaf[7:8], one.support.x[name])
    goals = source.parameters(range(4000))
    assert (
        np.abs(goals).max() < 0.5
        and np.abs(goals.mean(0)).max() < 0.02
        and goals.std() == pytest.approx(0.2887, abs=0.01)
    )
    train = PointNavigation(horizon=5).tasks("train", shot=4, query=3, seed=1).parameters(range(4000))
    assert not np.isin(train, goals).any()
    longer = PointNavigation(horizon=5).tasks("test", shot=9, query=3, seed=1).episodes(range(7, 8))
    assert isinstance(longer.support.x, dict)
    assert torch.equal(longer.support.x["seed"][:, :4], one.support.x["seed"])
    assert not np.isin(one.query.x["seed"], one.support.x["seed"]).any()  # type: ignore[index]


def test_an_oracle_sees_the_task_and_nobody_else() -> None:
    told = environment({"name": "point-navigation", "horizon": 5, "oracle": True})
    goal = torch.tensor([[0.3, -0.2]])
    running = told.start(goal, torch.tensor([[0, 1]]))
    assert told.observation == 4 and running.observation[0, 1].tolist() == pytest.approx([0, 0, 0.3, -0.2])
    after = running.step(torch.zeros(1, 2, 2))
    assert after.observation[0, 0, 2:].tolist() == pytest.approx([0.3, -0.2])
    plain = environment({"name": "point-navigation", "horizon": 5})
    seen = [plain.start(torch.tensor([[x, 0.1]]), torch.tensor([[0]])) for x in (0.4, -0.4)]
    moved = [running.step(torch.full((1, 1, 2), 0.5)).observation for running in seen]
    assert torch.equal(seen[0].observation, seen[1].observation) and torch.equal(moved[0], moved[1])


def test_names_and_numbers() -> None:
    with pytest.raises(
        UnknownName, match=r"no environment called 'point-navgation'. Did you mean 'point-navigation'\?"
    ):
        environment({"name": "point-navgation"})
    with pytest.raises(InputError, match=r"cannot be made with \{.speed.: 3\}"):
        environment({"name": "point-navigation", "speed": 3})
    with pytest.raises(InputError, match="at least one step, a whole number, received horizon = 0"):
        PointNavigation(horizon=0)
    with pytest.raises(InputError, match="an environment has no classes"):
        PointNavigation().tasks("train", shot=1, query=1, seed=0, way=5)
    with pytest.raises(InputError, match=r"shot = \[1, 5\]: all tasks of an environment have as many trajectories"):
        PointNavigation().tasks("train", shot=[1, 5], query=1, seed=0)


class Mine(AbstractEnvironment):
    """A newcomer's own, which gives its one tensor again and again, and says what it is told to."""

    name, observation, action, parameters = "mine", 1, 1, ("goal",)

    def __init__(self, horizon: int = 3, friction: float = 0.0, wrong: str = "") -> None:
        self.horizon, self.friction, self.wrong = horizon, friction, wrong

    @property
    def description(self) -> dict[str, Any]:
        return super().description | {"wrong": self.wrong}

    def draw(self, words: Any) -> Any:
        return words.astype(float) * 2.0**-64

    def start(self, task: torch.Tensor, seed: torch.Tensor) -> Any:
        self.observation_now = torch.zeros(*seed.shape, 1)
        return type("Going", (), {"observation": self.observation_now, "step": staticmethod(self.step)})

    def step(self, action: torch.Tensor) -> Step:
        self.observation_now += 1.0
        reward = torch.ones(action.shape[:2])
        done = torch.zeros(action.shape[:2], dtype=torch.bool)
        wrong = {"reward": reward[..., None], "observation": reward, "done": reward}
        return Step(self.observation_now, reward, done)._replace(**{n: wrong[n] for n in [self.wrong] if n})


def run_mine(monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    monkeypatch.setitem(ENVIRONMENTS, "mine", f"{__name__}:Mine")
    world = environment({"name": "mine", **options})
    asked = ControlTasks(world, split="train", shot=2, query=2, seed=0).episodes(range(2)).support
    return collect(world, lambda obs: (torch.zeros(2, 2, 1), torch.zeros(1)), asked, Keys.default(2)).x


def test_an_environment_may_write_into_its_own_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_mine(monkeypatch)["obs"][0, 0, :, 0].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        (
            "reward",
            r"gave 'reward' as torch.float32 of the shape \[2, 2, 1\]: it has to be floating-point of the shape",
        ),
        ("observation", r"gave 'observation' as torch.float32 of the shape \[2, 2\]: .* the shape \[2, 2, 1\]"),
        ("done", r"gave 'done' as torch.float32 of the shape \[2, 2\]: it has to be bool"),
    ],
)
def test_other_shapes_are_told_in_a_sentence(wrong: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=sentence):
        run_mine(monkeypatch, wrong=wrong)


def test_mistakes_in_an_own_environment_are_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"made with friction = 0\.5, and its description .* does not say so"):
        run_mine(monkeypatch, friction=0.5)
    for address in ("nowhere_at_all:Mine", f"{__name__}:Yours", "json"):
        monkeypatch.setitem(ENVIRONMENTS, "elsewhere", address)
        with pytest.raises(InputError, match=f"'{address}', a module and a name in it, cannot be imported"):
            environment({"name": "elsewhere"})
    monkeypatch.setitem(ENVIRONMENTS, "slope", f"{__name__}:Mine")
    with pytest.raises(InputError, match="made with name = 'slope', and its description"):
        environment({"name": "slope"})
    with pytest.raises(InputError, match=r"a whole number, received horizon = \[1, 2\]"):
        environment({"name": "point-navigation", "horizon": [1, 2]})
    with pytest.raises(UnknownName, match=r"no split of mine called 'tset'. Did you mean 'test'\?"):
        ControlTasks(Mine(), split="tset", shot=1, query=1, seed=0)


def test_figures_are_means_over_trajectories() -> None:
    source = PointNavigation(horizon=5).tasks("test", shot=1, query=2, seed=0)
    outputs = torch.tensor([[[-4.0, -2.0, 30.0], [-2.0, -1.0, 30.0]]])
    found = source.figures(outputs, source.episodes(range(1)))
    assert {name: float(value[0]) for name, value in found.items() if name != "mse"} == {
        "return": -1.5, "return@0": -3.0, "return@1": -1.5, "env-steps": 30.0,
    }  # fmt: skip


# --- simulators ------------------------------------------------------------------------------------------

gymnasium = pytest.importorskip("gymnasium")
pytest.importorskip("mujoco")
pytestmark = pytest.mark.filterwarnings("ignore")  # Gymnasium's own


def test_a_cheetah_is_gymnasiums() -> None:
    seed, task = [[3, 4], [5, 6]], [[1.0], [-1.0]]
    obs, reward, done = played(HalfCheetahDirection(horizon=9, workers=0), task, seed, 9)
    robot = gymnasium.make("HalfCheetah-v5")
    for t, n in ((0, 0), (0, 1), (1, 1)):
        robot.reset(seed=seed[t][n])
        for step in range(9):
            action = fixed(6, step, torch.tensor(seed))[t, n].double().numpy()
            seen, _, _, _, about = robot.step(action)
            np.testing.assert_allclose(obs[t, n, step].numpy(), seen, atol=1e-4)
            wanted = task[t][0] * about["x_velocity"] - 0.05 * np.square(action).sum()
            assert float(reward[t, n, step]) == pytest.approx(wanted, abs=1e-4)
    assert not done.any()


def test_worker_processes_change_nothing() -> None:
    task, seed = [[1.3], [0.2]], np.arange(16).reshape(2, 8).tolist()
    one, two = (HalfCheetahVelocity(horizon=6) for _ in range(2))
    assert one.environment is two.environment
    options = {"name": "half-cheetah-velocity", "horizon": 6}
    worlds = [environment({**options, "workers": n}) for n in (0, 2)]
    here, there = (played(world, task, seed, 6) for world in worlds)
    for a, b in zip(here, there, strict=True):
        assert torch.equal(a, b)
    alone = played(worlds[0], task[1:], [seed[1][3:4]], 6)
    assert torch.equal(alone[0][0, 0], here[0][1, 3])
    assert (here[1] <= 0).all()
    worlds[1].close()


def test_a_broken_joint_does_not_obey() -> None:
    world = AntBrokenJoints(horizon=4, workers=0)
    seeds = [[1], [1]]
    obs, reward, _ = played(world, [[2.0], [5.0]], seeds, 4)
    assert obs.shape == (2, 1, 4, 27) and not torch.equal(obs[0], obs[1])
    running = world.start(torch.tensor([[2.0], [5.0]]), torch.tensor(seeds))
    only_second = torch.zeros(2, 1, 8)
    only_second[..., 2] = 0.9
    after = running.step(only_second)
    still = world.start(torch.tensor([[2.0]]), torch.tensor([[1]])).step(torch.zeros(1, 1, 8))
    assert torch.equal(after.observation[0], still.observation[0])
    assert not torch.equal(after.observation[1], still.observation[0])
    assert reward.isfinite().all()


def test_trajectories_that_were_dropped_cannot_go_on() -> None:
    world = HalfCheetahDirection(horizon=3, workers=0)
    old = world.start(torch.tensor([[1.0]]), torch.tensor([[0]]))
    world.start(torch.tensor([[1.0]]), torch.tensor([[0]]))
    with pytest.raises(RuntimeError, match="others were started"):
        old.step(torch.zeros(1, 1, 6))


def test_a_worker_that_is_killed_or_owes_an_answer_is_not_asked_again() -> None:
    world = HalfCheetahDirection(horizon=3, workers=1)
    task, seed = torch.tensor([[1.0]]), torch.tensor([[0]])
    wanted = world.start(task, seed).observation
    (worker,) = world.simulators._processes
    worker.send_step(np.zeros((1, 6)))  # and Ctrl-C before the answer was read: it must not be taken for another's
    running = world.start(task, seed)
    assert torch.equal(running.observation, wanted)
    (another,) = world.simulators._processes
    assert another is not worker and worker._process.poll() is not None
    assert another.is_sound()
    another._process.kill()
    another._process.wait()
    with pytest.raises(RunError, match="A worker process of the simulator ended with status -9"):
        running.step(torch.zeros(1, 1, 6))
    assert not another.is_sound()
    world.close()


@pytest.mark.skipif(os.name != "posix", reason="processes have groups on POSIX alone")
def test_ctrl_c_does_not_reach_workers_and_nothing_is_left_of_a_killed_parent() -> None:
    code = (
        "import torch; from quickstudy.data.mujocotasks import HalfCheetahDirection as H\n"
        "w = H(horizon=3, workers=1); w.start(torch.tensor([[1.0]]), torch.tensor([[0]]))\n"
        "p = w.simulators._processes[0]._process.pid; print(p, flush=True); input()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert os.getpgid(worker) != os.getpgid(parent.pid)
        parent.kill()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and is_running(worker):
        time.sleep(0.02)
    assert not is_running(worker)


def is_running(process: int) -> bool:
    """Whether it lives; one that ended and that nobody has fetched does not."""
    try:
        os.kill(process, 0)
        status = Path(f"/proc/{process}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_missing_simulator_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name == "mujoco":
            raise ImportError("No module named 'mujoco'", name="mujoco")
        return usual(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for workers in (0, 2):
        with pytest.raises(InputError, match=r"needs the package mujoco: pip install 'quickstudy\[rl\]'"):
            HalfCheetahDirection(horizon=3, workers=workers).start(torch.tensor([[1.0]]), torch.tensor([[0]]))


def test_describing_tasks_needs_no_simulator() -> None:
    code = (
        "import sys; from quickstudy.data.controltasks import HalfCheetahDirection as H\n"
        "H().tasks('test', shot=1, query=1, seed=0).episodes(range(1))\n"
        "print({'mujoco', 'gymnasium'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert done.stdout.strip() == "set()"


def test_directions_are_balanced() -> None:
    world = HalfCheetahDirection(horizon=3, workers=0)
    drawn = world.draw(Key.of(0).bits(np.arange(1000), 1))
    assert set(np.unique(drawn)) == {-1.0, 1.0} and abs(drawn.mean()) < 0.1
    assert ControlTasks(world, split="test", shot=1, query=1, seed=0).shape.outputs == 6


def test_an_arm_is_meta_worlds() -> None:
    """Trajectories that share one arm are those of arms of their own."""
    pytest.importorskip("metaworld")
    from metaworld.envs.sawyer_push_v3 import SawyerPushEnvV3

    world = Push(horizon=4, workers=0)
    tasks = world.draw(Key.of(0).bits(np.arange(2), 6))
    assert (np.linalg.norm(tasks[:, :2] - tasks[:, 3:5], axis=1) >= 0.15).all()
    obs, reward, done = played(world, tasks.tolist(), [[0, 1], [2, 3]], 4)
    assert not done.any() and (obs[..., -3:] == 0).all()  # the goal is hidden
    for t, n in ((0, 1), (1, 0)):
        arm: Any = SawyerPushEnvV3()
        arm._partially_observable = arm._freeze_rand_vec = arm._set_task_called = True
        arm._last_rand_vec = tasks[t].astype(np.float32).astype(np.float64)
        arm.reset()
        for step in range(4):
            action = fixed(4, step, torch.tensor([[0, 1], [2, 3]]))[t, n].numpy()
            seen, earned, *_ = arm.step(action)
            np.testing.assert_allclose(obs[t, n, step].numpy(), seen, atol=1e-5)
            assert float(reward[t, n, step]) == pytest.approx(float(earned), abs=1e-5)
    with pytest.raises(InputError, match="have 500 steps at most, received horizon = 501"):
        Reach(horizon=501)
