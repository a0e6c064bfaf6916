"""What is measured: the sizes of each workload, and what the project promised for it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

__all__ = ["WORKLOADS", "Kind", "Promised", "Workload", "find"]

Kind: TypeAlias = Literal["maml", "fomaml", "protonet", "adapt", "sampling", "reptile"]


@dataclass(frozen=True)
class Promised:
    """Ratios to the best peer that the project set out to reach; None: none was named.

    Args:
        equal: for equal settings.
        as_run: as users run it.
        compiled: of the compiled form, in either column.
        gpu: on a GPU.
        gpu_words: over what, or what was promised in place of a ratio.
    """

    equal: float | None = None
    as_run: float | None = None
    compiled: float | None = None
    gpu: float | None = None
    gpu_words: str = ""


_OVER_A_LOOP = "over a task loop"
_LAUNCH_FREE = "close to the launch-free limit"


@dataclass(frozen=True)
class Workload:
    """One row of the benchmark; a *unit* of it is one meta-step, or ``tasks`` tasks tested or drawn.

    Args:
        id: its name on the command line.
        title: one line.
        kind: what is computed.
        tasks: tasks a unit.
        way: classes a task; 0 for the sinusoid.
        shot: support examples a class (points, for the sinusoid).
        query: query examples a class (points, for the sinusoid).
        net: ``"pool"`` (Conv-4 with max-pooling), ``"stride"`` (Conv-4 with strides), ``"mlp"`` or ``"none"``.
        channels: of the pictures.
        image: height and width of the pictures, in pixels.
        filters: channels of each block, or the width of the MLP's two layers.
        inner_steps: steps on a task.
        inner_lr: their rate.
        inner_batch: rows a step (Reptile); 0 for all.
        at_once: tasks that quickstudy computes together, as ``train.tasks-at-once`` would say; 0 for all of a unit.
        checked: tasks of the comparison in float64.
        promised: how many times faster than the best peer.
        gpu: the id of the same work on a GPU, if that is a row.
    """

    id: str
    title: str
    kind: Kind
    tasks: int
    way: int
    shot: int
    query: int
    net: Literal["pool", "stride", "mlp", "none"]
    channels: int = 1
    image: int = 28
    filters: int = 64
    inner_steps: int = 0
    inner_lr: float = 0.0
    inner_batch: int = 0
    at_once: int = 0
    checked: int = 2
    promised: Promised = Promised()
    gpu: str | None = None

    @property
    def support_rows(self) -> int:
        """Support examples a task."""
        return self.shot * max(1, self.way)

    @property
    def query_rows(self) -> int:
        """Query examples a task."""
        return self.query * max(1, self.way)

    def quick(self) -> Workload:
        """The same work in sizes of a few milliseconds, for tests of the harness itself."""
        return replace(
            self,
            tasks=min(self.tasks, 3),
            way=min(self.way, 5),
            query=min(self.query, 3),
            image=min(self.image, 28),
            filters=min(self.filters, 8),
            inner_steps=min(self.inner_steps, 2),
        )


_W1 = Workload(
    "W1",
    "MAML, second order, Conv-4-64, 28x28, 5-way 1-shot 15-query, 5 steps, 32 tasks",
    "maml",
    tasks=32,
    way=5,
    shot=1,
    query=15,
    net="pool",
    inner_steps=5,
    inner_lr=0.1,
    at_once=1,
    promised=Promised(1.5, 3.0, gpu=10.0, gpu_words=_OVER_A_LOOP),
    gpu="G1",
)

# In the order in which they matter to the project.
WORKLOADS: tuple[Workload, ...] = (
    Workload(
        "W3",
        "sinusoid MAML, second order, 1-40-40-1, 10-shot, 5 steps, 25 tasks",
        "maml",
        tasks=25,
        way=0,
        shot=10,
        query=10,
        net="mlp",
        filters=40,
        inner_steps=5,
        inner_lr=0.01,
        checked=5,
        promised=Promised(20.0, 20.0, compiled=50.0, gpu=40.0, gpu_words=_OVER_A_LOOP),
        gpu="G3",
    ),
    Workload(
        "W6",
        "sampling, Omniglot 5-way 1-shot 15-query, uint8 in memory",
        "sampling",
        tasks=64,
        way=5,
        shot=1,
        query=15,
        net="none",
        checked=16,
        promised=Promised(50.0, 50.0),
    ),
    Workload(
        "W4",
        "ProtoNet step, 60-way 5-shot 5-query, Conv-4-64, squared distance",
        "protonet",
        tasks=1,
        way=60,
        shot=5,
        query=5,
        net="pool",
        checked=1,
        promised=Promised(1.5, 2.5, gpu_words=_LAUNCH_FREE),
        gpu="G4",
    ),
    replace(
        _W1,
        id="W5",
        title="meta-test, 5-way 1-shot 15-query, Conv-4-64: adapt 10 steps and predict, 16 tasks",
        kind="adapt",
        tasks=16,
        inner_steps=10,
        at_once=0,
        promised=Promised(2.0, 2.5, gpu_words=_LAUNCH_FREE),
        gpu="G5",
    ),
    replace(
        _W1,
        id="W2",
        title="FOMAML, Conv-4-64, 28x28, 5-way 1-shot 15-query, 5 steps, 16 tasks",
        kind="fomaml",
        tasks=16,
        promised=Promised(1.7, 2.3),
        gpu=None,
    ),
    Workload(
        "W8",
        "Reptile, Omniglot 5-way as published (10 shots, 5 Adam steps of 10 rows, strided Conv-4-64), 5 tasks",
        "reptile",
        tasks=5,
        way=5,
        shot=10,
        query=1,
        net="stride",
        inner_steps=5,
        inner_lr=1e-3,
        inner_batch=10,
        promised=Promised(2.0),
    ),
    replace(
        _W1,
        id="W1m",
        title="MAML, second order, Conv-4-32, 3x84x84, 5-way 1-shot 15-query, 5 steps, 4 tasks",
        tasks=4,
        channels=3,
        image=84,
        filters=32,
        inner_lr=0.01,
        promised=Promised(1.5, 2.5),
        gpu=None,
    ),
    _W1,
)


def find(id: str) -> Workload:
    """The workload of that id; G1 .. G5 are found under the work that they repeat on a GPU.

    Raises:
        KeyError: there is none; the message lists those there are.
    """
    for workload in WORKLOADS:
        if id in (workload.id, workload.gpu):
            return workload
    if id == "G2":
        return replace(_W1, id="W1-256", title=_W1.title.replace("32 tasks", "256 tasks"), tasks=256, gpu="G2")
    raise KeyError(f"no workload {id!r}; there are {', '.join(w.id for w in WORKLOADS)} and G1 .. G5")
