"""The same loss and meta-gradient as other libraries compute, in float64 (`make test-peers`).

Each peer runs its own public API on the same network, weights and tasks.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Episode, Examples
from quickstudy.learners.anil import ANIL
from quickstudy.learners.fomaml import FOMAML
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.learners.metasgd import MetaSGD
from quickstudy.learners.protonet import ProtoNet
from quickstudy.nets.conv4 import Conv4
from quickstudy.nets.mlp import MLP
from tests.peers import stubs
from tests.smalltasks import FEATURES, WAY, Picture, tasks

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]

LR, STEPS = 0.3, 3
Task = tuple[Tensor, Tensor, Tensor, Tensor]
Ours = tuple[Tensor, list[Tensor]]


@pytest.fixture(autouse=True, scope="module")
def stand_ins() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stubs.install()
        yield


def body(kind: str) -> nn.Module:
    """A network of ours with smooth or with kinked layers."""
    torch.manual_seed(0)
    if kind == "mlp":
        return MLP(FEATURES, (6, 5), activation="tanh").double()
    net = nn.Sequential(Picture(), Conv4(1, 16, filters=4, norm="layer", pool="stride")).double()
    net.out_features = net[1].out_features
    return net


def each(episode: Episode) -> list[Task]:
    def of(part: Examples, t: int) -> tuple[Tensor, Tensor]:
        assert isinstance(part.x, Tensor) and part.y is not None
        return part.x[t], part.y[t]

    return [(*of(episode.support, t), *of(episode.query, t)) for t in range(episode.n_task)]


def ours(learner: AbstractLearner, *parts: nn.Module) -> Ours:
    """The sum of the query losses, and its gradient in the parameters of these parts."""
    loss = learner.meta_loss(tasks()).loss.sum()
    return loss.detach(), list(torch.autograd.grad(loss, [p for part in parts for p in part.parameters()]))


def assert_same(mine: Ours, loss: Tensor, grads: list[Tensor]) -> None:
    torch.testing.assert_close(mine[0], loss.detach(), rtol=1e-10, atol=1e-10)
    assert len(mine[1]) == len(grads) > 0
    for a, b in zip(mine[1], grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def plain(learner: MAML | FOMAML | MetaSGD | ANIL) -> nn.Sequential:
    """The learner's network and head as one module for the peers."""
    return nn.Sequential(copy.deepcopy(learner.model.net), copy.deepcopy(learner.model.head))


def by_higher(model: nn.Module, task: Task, first_order: bool) -> Tensor:
    import higher

    optimizer = torch.optim.SGD(model.parameters(), LR)
    with higher.innerloop_ctx(model, optimizer, copy_initial_weights=False, track_higher_grads=True) as (fast, inner):
        for _ in range(STEPS):
            # higher's own way to first order (track_higher_grads=False) cuts the link to the initial weights.
            callback = (lambda grads: [g.detach() for g in grads]) if first_order else None
            inner.step(F.cross_entropy(fast(task[0]), task[1]), grad_callback=callback)
        return F.cross_entropy(fast(task[2]), task[3])


def by_torchopt(model: nn.Module, task: Task, first_order: bool) -> Tensor:
    import torchopt

    assert not first_order
    inner = torchopt.MetaSGD(model, lr=LR)
    start = torchopt.extract_state_dict(model, by="reference")
    for _ in range(STEPS):
        inner.step(F.cross_entropy(model(task[0]), task[1]))
    loss = F.cross_entropy(model(task[2]), task[3])
    torchopt.recover_state_dict(model, start)
    return loss


def by_learn2learn(model: nn.Module, task: Task, first_order: bool) -> Tensor:
    import learn2learn as l2l

    learner = l2l.algorithms.MAML(model, lr=LR, first_order=first_order).clone()
    for _ in range(STEPS):
        learner.adapt(F.cross_entropy(learner(task[0]), task[1]))
    loss: Tensor = F.cross_entropy(learner(task[2]), task[3])
    return loss


PEERS: dict[str, Callable[[nn.Module, Task, bool], Tensor]] = {
    "higher": by_higher,
    "torchopt": by_torchopt,
    "learn2learn": by_learn2learn,
}


@pytest.mark.parametrize("net", ["mlp", "conv4"])
@pytest.mark.parametrize(
    ("peer", "first_order"),
    [(peer, False) for peer in PEERS] + [("higher", True), ("learn2learn", True)],  # torchopt has no first order
)
def test_maml_and_fomaml(peer: str, first_order: bool, net: str) -> None:
    kind = FOMAML if first_order else MAML
    learner = kind(body(net), WAY, inner_steps=STEPS, inner_lr=LR).double()
    model = plain(learner)
    losses = [PEERS[peer](model, task, first_order) for task in each(tasks())]
    loss = torch.stack(losses).sum()
    grads = list(torch.autograd.grad(loss, list(model.parameters())))
    assert_same(ours(learner, learner.model.net, learner.model.head), loss, grads)


def test_the_comparison_can_fail() -> None:
    learner = MAML(body("mlp"), WAY, inner_steps=STEPS, inner_lr=LR).double()
    model = plain(learner)
    loss = torch.stack([by_higher(model, task, True) for task in each(tasks())]).sum()
    grads = list(torch.autograd.grad(loss, list(model.parameters())))
    with pytest.raises(AssertionError):
        assert_same(ours(learner, learner.model.net, learner.model.head), loss, grads)


def test_anil_as_learn2learn() -> None:
    """Its example: MAML around the head, features of the body outside."""
    import learn2learn as l2l

    learner = ANIL(body("mlp"), WAY, inner_steps=STEPS, inner_lr=LR).double()
    net, head = copy.deepcopy(learner.model.net), copy.deepcopy(learner.model.head)
    maml, losses = l2l.algorithms.MAML(head, lr=LR), []
    for sx, sy, qx, qy in each(tasks()):
        fast = maml.clone()
        for _ in range(STEPS):
            fast.adapt(F.cross_entropy(fast(net(sx)), sy))
        losses.append(F.cross_entropy(fast(net(qx)), qy))
    loss = torch.stack(losses).sum()
    grads = list(torch.autograd.grad(loss, [*net.parameters(), *head.parameters()]))
    assert_same(ours(learner, learner.model.net, learner.model.head), loss, grads)


def test_meta_sgd_as_learn2learn() -> None:
    """Gradients in θ and in the rates."""
    import learn2learn as l2l

    learner = MetaSGD(body("mlp"), WAY, inner_steps=STEPS, inner_lr=LR).double()
    names = [name for name, _ in learner.model.named_parameters()]
    rates = nn.ParameterList(learner.rates[name.replace(".", "/")] for name in names)
    for rate in rates:
        nn.init.constant_(rate, LR)  # it was rounded to float32 when the learner was built
    model = plain(learner)
    peer, losses = l2l.algorithms.MetaSGD(model, lr=LR).double(), []
    for sx, sy, qx, qy in each(tasks()):
        fast = peer.clone()
        for _ in range(STEPS):
            fast.adapt(F.cross_entropy(fast(sx), sy))
        losses.append(F.cross_entropy(fast(qx), qy))
    loss = torch.stack(losses).sum()
    grads = list(torch.autograd.grad(loss, [*model.parameters(), *peer.lrs]))
    assert_same(ours(learner, learner.model.net, learner.model.head, rates), loss, grads)


def test_protonet_as_easyfsl() -> None:
    from easyfsl.methods import PrototypicalNetworks

    learner = ProtoNet(body("mlp"), distance="euclidean").double()
    net, losses = copy.deepcopy(learner.embed.net), []
    peer = PrototypicalNetworks(net)
    for sx, sy, qx, qy in each(tasks()):
        peer.process_support_set(sx, sy)
        losses.append(F.cross_entropy(peer(qx), qy))
    loss = torch.stack(losses).sum()
    assert_same(ours(learner, learner.embed.net), loss, list(torch.autograd.grad(loss, list(net.parameters()))))


def test_protonet_as_torchmeta() -> None:
    from torchmeta.utils.prototype import get_prototypes, prototypical_loss

    learner = ProtoNet(body("mlp")).double()
    net, episode = copy.deepcopy(learner.embed.net), tasks()
    sets = [(part.x, part.y) for part in (episode.support, episode.query)]
    (sx, sy), (qx, qy) = sets
    assert isinstance(sx, Tensor) and isinstance(qx, Tensor)
    centres = get_prototypes(net(sx.flatten(0, 1)).unflatten(0, sx.shape[:2]), sy, WAY)
    # Its mean over tasks and rows, times the number of tasks, is our sum of task means.
    loss = prototypical_loss(centres, net(qx.flatten(0, 1)).unflatten(0, qx.shape[:2]), qy) * episode.n_task
    assert_same(ours(learner, learner.embed.net), loss, list(torch.autograd.grad(loss, list(net.parameters()))))
