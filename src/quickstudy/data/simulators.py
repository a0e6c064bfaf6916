"""Floor 1: simulators in worker processes: each advances a share of the trajectories, all take each step together.

A worker is this module run as a command, not a child of ``multiprocessing``, so that a script without a main guard
works. It is told by lines of JSON, and raw arrays behind them, on its standard input. What a trajectory becomes depends
on its own task, seed and actions alone, so that the number of workers changes nothing.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import override

from quickstudy.data.environments import AbstractEnvironment, Failed, Running, Step
from quickstudy.errors import InputError, RunError, in_words

__all__ = ["AbstractSimulated", "Simulation", "Simulators", "cores", "drawn", "usual_workers"]

Floats = NDArray[np.float64]
_LEAST = 8  # trajectories that are worth a worker of their own


class Simulation(Protocol):
    """Trajectories in one process."""

    def reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> Floats:
        """Begin M trajectories of tasks ``[M, P]``: observations ``[M, O]``."""

    def step(self, actions: Floats) -> tuple[Floats, Floats, Floats]:
        """Observations ``[M, O]``, rewards ``[M]`` and whether each ended, ``[M]``, after actions ``[M, A]``."""


def drawn(
    simulation: Simulation,
    model: Any,
    data: Callable[[], Any],
    actions: Tensor,
    every: int,
    size: int,
    camera: Mapping[str, Any],
) -> Iterator[NDArray[np.uint8]]:
    """Pictures ``[size, size, 3]`` of MuJoCo's only trajectory of a simulation, before every few of its steps.

    Args:
        simulation: whose trajectory has just begun.
        model: MuJoCo's.
        data: gives MuJoCo's data of that trajectory.
        actions: ``[H, A]``.
        every: steps from picture to picture.
        size: pixels along a side.
        camera: attributes of MuJoCo's free camera.

    Raises:
        Exception: whatever MuJoCo says where there is no off-screen renderer.
    """
    import mujoco

    # Without either MuJoCo would fail later, and complain of that on stderr, by itself and by its windows.
    if sys.platform == "linux" and not {"DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"} & os.environ.keys():
        raise RuntimeError("there is no display, and MUJOCO_GL is not set")
    renderer, free = mujoco.Renderer(model, size, size), mujoco.MjvCamera()
    for name, value in camera.items():
        setattr(free, name, value)
    for costly in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):  # most renderers have no GPU
        renderer.scene.flags[costly] = 0
    try:
        for number, action in enumerate(actions.clamp(-1, 1).double().numpy()):
            if number % every == 0:
                renderer.update_scene(data(), free)
                yield renderer.render()
            simulation.step(action[None])
    finally:
        renderer.close()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers() -> int:
    """As many as there are cores; none beside this process where there is one, on which they would wait in turn."""
    return cores() if cores() > 1 else 0


class Simulators:
    """Worker processes that run one kind of simulation; started when they are first needed.

    Args:
        address: ``"module:class"`` of the simulation.
        options: of its constructor, JSON.
        workers: processes; 0: in this one.
    """

    def __init__(self, address: str, options: dict[str, Any], workers: int) -> None:
        self._address, self._options, self._workers = address, options, workers
        self._processes: list[_Worker] = []
        self._here: Simulation | None = None
        self._under_way = 0
        weakref.finalize(self, _end, self._processes)  # when it is dropped, and when Python ends

    def start(self, task: Tensor, seed: Tensor) -> _Simulated:
        """T x N trajectories under way; those that were before are dropped."""
        self._under_way += 1
        n = seed.shape[1]
        tasks = task.double()[:, None].expand(-1, n, -1).flatten(0, 1).numpy()
        seeds = seed.flatten().numpy()
        parts: list[_Worker | _Here] = list(self._parts(len(seeds)))
        shares = np.array_split(np.arange(len(seeds)), len(parts))
        for part, mine in zip(parts, shares, strict=True):
            part.send_reset(np.ascontiguousarray(tasks[mine]), np.ascontiguousarray(seeds[mine]))
        obs = np.concatenate([part.observations() for part in parts])
        return _Simulated(self, self._under_way, parts, shares, obs, tuple(seed.shape))

    def is_under_way(self, number: int) -> bool:
        """Whether trajectories are the last that were started."""
        return number == self._under_way

    def _parts(self, n: int) -> Sequence[_Worker | _Here]:
        if self._workers == 0:
            if self._here is None:
                self._here = load(self._address, self._options)
            return [_Here(self._here)]
        if not all(process.is_sound() for process in self._processes):
            _end(self._processes)
        wanted = max(1, min(self._workers, n // _LEAST))
        while len(self._processes) < wanted:
            self._processes.append(_Worker(self._address, self._options))
        return self._processes[:wanted]

    def close(self) -> None:
        """End the processes."""
        _end(self._processes)


def _end(processes: list[_Worker]) -> None:
    while processes:
        processes.pop().close()


class AbstractSimulated(AbstractEnvironment):
    """An environment whose trajectories run in simulators.

    Attributes:
        simulators: set when it is made.
    """

    simulators: Simulators

    @override
    def start(self, task: Tensor, seed: Tensor) -> Running:
        return self.simulators.start(task, seed)

    @override
    def close(self) -> None:
        self.simulators.close()


class _Simulated:
    def __init__(
        self,
        owner: Simulators,
        number: int,
        parts: Sequence[_Worker | _Here],
        shares: Sequence[NDArray[np.intp]],
        obs: Floats,
        shape: tuple[int, ...],
    ) -> None:
        self._owner, self._number, self._parts, self._shares, self._shape = owner, number, parts, shares, shape
        self.observation = self._observed(obs)

    def _observed(self, obs: Floats) -> Tensor:
        return torch.from_numpy(obs.astype(np.float32)).view(*self._shape, -1)

    def step(self, action: Tensor) -> Step:
        if not self._owner.is_under_way(self._number):
            raise RuntimeError("These trajectories were dropped: others were started in the same environment since.")
        actions = action.clamp(-1, 1).nan_to_num(0.0).double().flatten(0, 1).numpy()
        for part, mine in zip(self._parts, self._shares, strict=True):
            part.send_step(np.ascontiguousarray(actions[mine]))
        found = [part.outcome() for part in self._parts]
        obs, reward, done = (np.concatenate(columns) for columns in zip(*found, strict=True))
        told = [torch.from_numpy(part).view(self._shape) for part in (reward.astype(np.float32), done > 0)]
        return Step(self._observed(obs), told[0], told[1])


class _Here:
    """The same interface within this process."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._obs = np.zeros((0, 0))
        self._actions = np.zeros((0, 0))

    def send_reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> None:
        self._obs = self._simulation.reset(tasks, seeds)

    def observations(self) -> Floats:
        return self._obs

    def send_step(self, actions: Floats) -> None:
        self._actions = actions

    def outcome(self) -> tuple[Floats, Floats, Floats]:
        return self._simulation.step(self._actions)


class _Worker:
    """One process."""

    def __init__(self, address: str, options: dict[str, Any]) -> None:
        load(address, options, only_look=True)  # a missing simulator is told here, as a sentence
        # Where this process finds modules, an environment of one's own among them, so does the worker.
        paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *filter(None, sys.path)])
        settings = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "quickstudy.data.simulators", address, json.dumps(options)]
        # In a session of its own, as Ctrl-C is the starter's to hear: the step under way is finished and saved, and the
        # worker ends when its input does.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=settings, start_new_session=True
        )
        self._owes = False  # an answer

    def is_sound(self) -> bool:
        """Whether it lives, and owes no answer to a question whose asker was interrupted."""
        return self._process.poll() is None and not self._owes

    def send_reset(self, tasks: Floats, seeds: NDArray[np.int64]) -> None:
        self._send("reset", tasks, seeds)

    def observations(self) -> Floats:
        return self._receive()[0]

    def send_step(self, actions: Floats) -> None:
        self._send("step", actions)

    def outcome(self) -> tuple[Floats, Floats, Floats]:
        obs, reward, done = self._receive()
        return obs, reward, done

    def _send(self, what: str, *arrays: NDArray[Any]) -> None:
        assert self._process.stdin is not None
        self._owes = True
        try:
            write(self._process.stdin, what, *arrays)
        except OSError as error:
            raise self._lost() from error

    def _receive(self) -> list[Floats]:
        assert self._process.stdout is not None
        try:
            what, arrays = read(self._process.stdout)
        except EOFError as error:
            raise self._lost() from error
        self._owes = False
        if what == "failed":
            raise Failed(arrays[0].tobytes().decode())
        return arrays

    def _lost(self) -> RunError:
        try:
            status = self._process.wait(5)  # its end of the pipe may be gone a moment before it is
        except subprocess.TimeoutExpired:
            status = None
        return RunError(
            f"A worker process of the simulator ended with status {status}: it was killed, or the simulator failed "
            "(see above). Go on with the run by --resume."
        )

    def close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                try:
                    stream.close()
                except OSError:  # it is gone, and has what was left to write
                    continue
        self._process.wait()


# --- both ends ---------------------------------------------------------------------------------------


def load(address: str, options: dict[str, Any], *, only_look: bool = False) -> Any:
    """The simulation at an address; with ``only_look`` nothing but whether its packages are there.

    Raises:
        InputError: a package is missing.
    """
    module, _, name = address.partition(":")
    try:
        cls = getattr(importlib.import_module(module), name)
        cls.check()
    except ImportError as error:
        raise InputError(
            f"This environment needs the package {error.name or 'gymnasium'}: pip install 'quickstudy[rl]'."
        ) from error
    return None if only_look else cls(**options)


def write(stream: IO[bytes], what: str, *arrays: NDArray[Any]) -> None:
    """A line of JSON, then the arrays' bytes."""
    described = [[array.dtype.str, list(array.shape)] for array in arrays]
    stream.write(json.dumps([what, described]).encode() + b"\n")
    for array in arrays:
        stream.write(array.tobytes())
    stream.flush()


def read(stream: IO[bytes]) -> tuple[str, list[Any]]:
    """What :func:`write` wrote.

    Raises:
        EOFError: the other end is gone.
    """
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    what, described = json.loads(line)
    arrays = []
    for kind, shape in described:
        dtype = np.dtype(kind)
        size = int(np.prod(shape)) * dtype.itemsize
        data = stream.read(size)
        if len(data) < size:
            raise EOFError
        arrays.append(np.frombuffer(data, dtype).reshape(shape))
    return what, arrays


def serve(address: str, options: dict[str, Any], given: IO[bytes], told: IO[bytes]) -> None:
    """The life of a worker."""
    simulation: Simulation | None = None
    while True:
        try:
            what, arrays = read(given)
        except EOFError:
            return
        try:
            simulation = simulation or load(address, options)
            answer = simulation.step(*arrays) if what == "step" else (simulation.reset(*arrays),)
        except Exception as error:  # an environment of somebody's own may raise anything; who asked tells it
            said = str(error) if isinstance(error, Failed) else in_words(error)
            answer, what = (np.frombuffer(said.encode(), np.uint8),), "failed"
        write(told, what, *answer)


def _main() -> None:
    # What the simulator prints must not get between the answers.
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        serve(sys.argv[1], json.loads(sys.argv[2]), sys.stdin.buffer, told)
    except (KeyboardInterrupt, BrokenPipeError):
        return


if __name__ == "__main__":
    _main()
