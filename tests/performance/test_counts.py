"""How much a meta-step does, in numbers that do not depend on the machine: operators, graph nodes, bytes alive.

Each limit is a little above what is needed now. Where one is passed, something was added to every meta-step: look for
work that is done once more for each layer, step or task. Where a change saves a lot, lower the limit.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.evaluate.metatest import answer
from quickstudy.learners import FOMAML, MAML, AbstractLearner, ProtoNet
from quickstudy.learners.states import map_state
from quickstudy.nets import MLP, Conv4, maps
from quickstudy.train.tracing import trace

SLACK = 1.05
VIEWS = ("aten.view", "aten.expand", "aten.transpose", "aten.unsqueeze", "aten.squeeze", "aten.detach", "aten.alias")


class Counts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators that compute; views cost next to nothing and differ between versions of torch."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not str(func).startswith(VIEWS):
            self.seen[str(func)] += 1
        return func(*args, **(kwargs or {}))


@contextmanager
def counted() -> Iterator[Counter[str]]:
    with Counts() as counts:
        yield counts.seen


def nodes(output: Tensor) -> int:
    """Nodes of the autograd graph behind ``output``."""
    waiting, seen = [output.grad_fn], set()
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return len(seen)


def at_most(what: str, found: int, now: int, detail: Counter[str] | None = None) -> None:
    limit = round(now * SLACK)
    most = f" Most often: {detail.most_common(8)}." if detail else ""
    assert found <= limit, f"{what}: {found}, which were {now} when this limit ({limit}) was set.{most}"


def waves(n_task: int = 25) -> Episode:
    x = torch.linspace(-5, 5, n_task * 20).reshape(n_task, 20, 1)
    y = torch.sin(x + torch.arange(n_task)[:, None, None])
    return Episode(Examples(x[:, :10], y[:, :10], Real(1)), Examples(x[:, 10:], y[:, 10:], Real(1)))


def pictures(n_task: int = 2, way: int = 3) -> Episode:
    x = torch.rand(n_task, 2 * way, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    y = torch.arange(way).expand(n_task, -1).contiguous()
    target = Classes(torch.full((n_task,), way))
    return Episode(Examples(x[:, :way], y, target), Examples(x[:, way:], y, target))


def sinusoid(learner: Callable[..., Any] = MAML) -> AbstractLearner:
    found: AbstractLearner = learner(MLP(1, (40, 40)), 1, "real", inner_steps=5)
    return found


def omniglot(learner: Callable[..., Any], inner_steps: int = 2, **more: Any) -> AbstractLearner:
    net = Conv4(1, 16, filters=4, norm="transductive")
    found: AbstractLearner = learner(net, 3, inner_steps=inner_steps, transductive=True, **more)
    return found


STEPS: dict[str, tuple[Callable[[], AbstractLearner], Callable[[], Episode], int, int]] = {
    "maml-mlp": (sinusoid, waves, 267, 17),
    "fomaml-mlp": (lambda: sinusoid(FOMAML), waves, 141, 17),
    "maml-conv4": (lambda: omniglot(MAML), pictures, 1775, 650),
    "fomaml-conv4": (lambda: omniglot(FOMAML), pictures, 879, 146),
    "protonet-conv4": (lambda: ProtoNet(Conv4(1, 16, filters=4)), pictures, 575, 198),
}
"""Name -> learner, tasks, operators of a meta-step and its gradient, graph nodes behind its loss."""


@pytest.mark.parametrize("name", STEPS)
def test_operators_and_nodes_of_a_meta_step(name: str) -> None:
    build, draw, operators, graph = STEPS[name]
    learner, episode = build().train(), draw()
    with counted() as seen:
        loss = learner.meta_loss(episode).loss.mean()
        found = nodes(loss)
        loss.backward()  # type: ignore[no-untyped-call]
    present = f"{name} has {seen.total()} operators and {found} nodes"
    at_most(f"{present}; operators", seen.total(), operators, seen)
    at_most(f"{present}; nodes", found, graph)


IN_C = {
    "maml-mlp": (223, 17),
    "fomaml-mlp": (197, 17),
    "maml-conv4": (2880, 302),
    "fomaml-conv4": (1830, 89),
    "protonet-conv4": (1109, 76),
}
"""Name -> calls of torch and graph nodes where kernels in C compute; calls within calls and views count, too."""


@pytest.mark.skipif(not maps.C.there(), reason="no C compiler")
@pytest.mark.parametrize("name", IN_C)
def test_calls_and_nodes_with_kernels_in_c(name: str) -> None:
    """No dispatch mode may watch here: inside one there is no C."""
    build, draw, *_ = STEPS[name]
    learner, episode, (calls, graph) = build().train(), draw(), IN_C[name]
    with torch.autograd.profiler.profile() as profile:
        loss = learner.meta_loss(episode).loss.mean()
        found = nodes(loss)
        loss.backward()  # type: ignore[no-untyped-call]
    seen = Counter({event.key: event.count for event in profile.key_averages() if event.key.startswith("aten::")})
    present = f"{name} has {seen.total()} calls and {found} nodes"
    at_most(f"{present}; calls", seen.total(), calls, seen)
    at_most(f"{present}; nodes", found, graph)


def test_more_steps_cost_the_same_each() -> None:
    """What a further inner step adds; checks and the like belong to the episode."""
    found = []
    for steps in (3, 4, 5):
        learner = MAML(MLP(1, (40, 40)), 1, "real", inner_steps=steps)
        with counted() as seen:
            learner.meta_loss(waves()).loss.mean().backward()  # type: ignore[no-untyped-call]
        found.append(seen.total())
    assert found[2] - found[1] == found[1] - found[0]
    at_most("operators of an inner step on an MLP", found[2] - found[1], 44)


def test_more_tasks_cost_no_more_operators() -> None:
    """The sinusoid's network runs all tasks at once."""
    found = []
    for n_task in (2, 25):
        with counted() as seen:
            sinusoid().meta_loss(waves(n_task)).loss.mean().backward()  # type: ignore[no-untyped-call]
        found.append(seen.total())
    assert found[0] == found[1]


def test_first_order_builds_no_second_order_graph() -> None:
    """The graph behind its loss grows by the updates alone, and not by each step's forward and backward pass."""
    grown = {}
    for learner in (MAML, FOMAML):
        sizes = []
        for steps in (1, 4):
            # Not with ReLUs, for which all steps are one node.
            built: AbstractLearner = learner(MLP(1, (8,), activation="tanh"), 1, "real", inner_steps=steps)
            sizes.append(nodes(built.meta_loss(waves(2)).loss.mean()))
        grown[learner] = (sizes[1] - sizes[0]) / 3
    assert grown[FOMAML] <= 3, grown
    assert grown[MAML] > 3 * grown[FOMAML], grown


@pytest.mark.parametrize("name", STEPS)
def test_evaluation_builds_no_graph(name: str) -> None:
    """A graph of the steps would hang on what they taught."""
    build, draw, *_ = STEPS[name]
    learner, episode = build().eval(), draw()
    linked, found = list[Tensor](), list[Tensor]()

    def look(leaf: Tensor) -> Tensor:
        found.append(leaf)
        if leaf.grad_fn is not None:
            linked.append(leaf)
        return leaf

    with torch.no_grad():
        map_state(look, learner.adapt(episode.support))
    assert found and linked == []


# --- memory -------------------------------------------------------------------------------------


class Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """The most bytes that were alive at once, of what operators put out; what they need inside is not seen."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.most = 0
        self._there, self._sum = list[tuple[StorageWeakRef, int]](), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        before = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in before:  # no view, not in place
                storage = leaf.untyped_storage()
                before.add(storage._cdata)
                self._there.append((StorageWeakRef(storage), storage.nbytes()))  # type: ignore[no-untyped-call]
                self._sum += storage.nbytes()
        if self._sum > self.most:  # only now does it matter which of them are gone
            self._there = [each for each in self._there if not each[0].expired()]  # type: ignore[no-untyped-call]
            self._sum = sum(size for _, size in self._there)
            self.most = max(self.most, self._sum)
        return out


def peak(learner: AbstractLearner, episode: Episode) -> int:
    """Bytes at the worst moment of a meta-step, the gradients included, weights and tasks not."""
    learner.train()

    def step() -> None:
        learner.meta_loss(episode).loss.mean().backward()  # type: ignore[no-untyped-call]

    return most_alive(step, learner.zero_grad)


def most_alive(work: Callable[[], object], before: Callable[[], object] = lambda: None) -> int:
    """Bytes at the worst moment of ``work``; of ``before`` each time nothing is counted."""
    alive = Alive()
    gc.disable()  # it would clear circles away sooner or later, as it pleases
    try:
        for watching in (Counts(), alive):  # the first time fills what is kept from call to call
            before()
            with watching:
                work()
    finally:
        gc.enable()
    return alive.most


BYTES = {
    "maml-mlp": 2655308,
    "fomaml-mlp": 807300,
    "maml-conv4": 363886,
    "fomaml-conv4": 112848,
    "protonet-conv4": 172248,
}


@pytest.mark.parametrize("name", BYTES)
def test_bytes_alive_in_a_meta_step(name: str) -> None:
    build, draw, *_ = STEPS[name]
    at_most(f"bytes alive in {name}", peak(build(), draw()), BYTES[name])


def test_bytes_grow_with_the_inner_steps_only_where_they_must() -> None:
    """Unrolled, each keeps its activations; by the adjoint, the weights after it; in first order, nothing."""
    ways: dict[str, Callable[[int], AbstractLearner]] = {
        "unrolled": lambda steps: omniglot(MAML, steps),
        "adjoint": lambda steps: omniglot(MAML, steps, memory="adjoint"),
        "first order": lambda steps: omniglot(FOMAML, steps),
    }
    found = {way: [peak(build(steps), pictures()) for steps in (1, 3, 5)] for way, build in ways.items()}
    grown = {way: (most - more) // 2 for way, (_, more, most) in found.items()}
    assert found["unrolled"][1] - found["unrolled"][0] == 2 * grown["unrolled"]
    at_most("bytes of an unrolled inner step on Conv-4", grown["unrolled"], 127694)
    n_task, weights = 2, sum(p.numel() * p.element_size() for p in omniglot(MAML).parameters())
    assert grown["adjoint"] == n_task * weights, found
    assert grown["first order"] == 0, found
    assert found["adjoint"][2] < found["unrolled"][2] / 3, found


@pytest.mark.parametrize("learner", [MAML, FOMAML])
def test_bytes_of_an_evaluation_do_not_grow_with_its_steps(learner: Callable[..., Any]) -> None:
    """The graph of each step is gone before the next."""
    found = []
    for steps in (2, 3, 5):
        tested = omniglot(learner, steps).eval()
        found.append(most_alive(lambda: answer(tested, pictures())))  # noqa: B023
    assert found[0] == found[1] == found[2]


def test_a_trace_has_no_more_operators() -> None:
    graph = trace(sinusoid().train(), waves()).graph
    calls = Counter(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
    computing = Counter({n: c for n, c in calls.items() if not n.startswith((*VIEWS, "<"))})
    at_most("operators of the traced meta-step", computing.total(), 248, computing)
    assert not any("_." in name for name in computing), "an operator of the trace writes in place"
