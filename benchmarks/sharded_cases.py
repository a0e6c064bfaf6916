"""What is tried on sharded weights by ``sharded.py``: each case against the same on whole weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.func import functional_call
from torch.nn import functional as F

from quickstudy.episode import Classes, Episode, Examples
from quickstudy.learners import ANIL, FOMAML, MAML, ProtoNet, Reptile
from quickstudy.learners.learner import AbstractLearner
from quickstudy.nets import MLP

WAY, WIDTH, STEPS, RATE = 3, 16, 2, 0.1
Gradients = list[Tensor]
Weights = dict[str, Tensor]
Parts = tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]

__all__ = ["CASES", "WAY", "Case", "episode"]


# --- what is computed: the same on whole weights and on sharded ones ---------------------------------


def network() -> nn.Sequential:
    """A network that double backward goes through; the same on every process."""
    torch.manual_seed(0)
    layers = (nn.Linear(8, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WIDTH), nn.Tanh(), nn.Linear(WIDTH, WAY))
    return nn.Sequential(*layers).double()


def task(rank: int, rows: int = 4) -> Parts:
    """Support and query of the task of a rank: ``[WAY * rows, 8]`` and labels."""
    generator = torch.Generator().manual_seed(rank)
    y = torch.arange(WAY).repeat_interleave(rows)
    parts = [torch.randn(len(y), 8, generator=generator, dtype=torch.float64) for _ in range(2)]
    return (parts[0], y), (parts[1], y)


def episode(rank: int) -> Episode:
    """The same for a learner of quickstudy."""
    ways = Classes(torch.tensor([WAY]))
    support, query = (Examples(x[None], y[None], ways) for x, y in task(rank))
    return Episode(support, query)


def sharded(net: nn.Sequential) -> nn.Sequential:
    """Each layer with weights is gathered by itself, and freed after its use; the network is changed in place."""
    for layer in net:
        if isinstance(layer, nn.Linear):
            fully_shard(layer)
    fully_shard(net)
    return net


def whole(tensors: list[Tensor | None]) -> Gradients:
    """Each tensor whole, on every process."""
    return [torch.zeros(()) if t is None else t.full_tensor() if isinstance(t, DTensor) else t for t in tensors]


def gradients(module: nn.Module) -> Gradients:
    """Of the parameters, whole."""
    return whole([p.grad for p in module.parameters()])


def plain(net: nn.Module, rank: int) -> Tensor:
    """The loss of ordinary training."""
    (x, y), _ = task(rank)
    loss: Tensor = F.cross_entropy(net(x), y)
    return loss


def adapted(
    net: nn.Module, rank: int, weights: Weights, *, second_order: bool = True, parts: Parts | None = None
) -> Tensor:
    """MAML by hand: inner steps on ``weights``, functionally; the loss of the query."""
    (x, y), (x_query, y_query) = parts or task(rank)
    for _ in range(STEPS):
        loss = F.cross_entropy(functional_call(net, weights, (x,)), y)
        moved = torch.autograd.grad(loss, list(weights.values()), create_graph=second_order)
        weights = {name: w - RATE * g for (name, w), g in zip(weights.items(), moved, strict=True)}
    return F.cross_entropy(functional_call(net, weights, (x_query,)), y_query)


def head_alone(body: nn.Module, head: nn.Linear, rank: int) -> Tensor:
    """ANIL by hand: inner steps on a head that is not sharded, over features of a body that may be."""
    (x, y), (x_query, y_query) = task(rank)
    w, b = head.weight, head.bias
    features = body(torch.cat([x, x_query]))
    f, f_query = features[: len(x)], features[len(x) :]
    for _ in range(STEPS):
        gw, gb = torch.autograd.grad(F.cross_entropy(F.linear(f, w, b), y), [w, b], create_graph=True)
        w, b = w - RATE * gw, b - RATE * gb  # type: ignore[assignment]
    return F.cross_entropy(F.linear(f_query, w, b), y_query)


def mean_over_tasks(of: Callable[[int], Gradients]) -> Gradients:
    """What FSDP2 makes of gradients: their mean over the processes, each of which has a task of its own."""
    return [torch.stack(each).mean(0) for each in zip(of(0), of(1), strict=True)]


# --- the cases ---------------------------------------------------------------------------------------

Case = Callable[[int], tuple[Gradients, Gradients]]
CASES: dict[str, tuple[str, Case]] = {}


def case(name: str, what: str) -> Callable[[Case], Case]:
    """Enter a function that gives what was found with shards, and what it should be, on this rank."""

    def enter(function: Case) -> Case:
        CASES[name] = (what, function)
        return function

    return enter


def _trained(loss: Callable[[nn.Sequential, int], Tensor], rank: int) -> tuple[Gradients, Gradients]:
    """The gradient of a loss through FSDP2, and the one of whole weights."""

    def reference(which: int) -> Gradients:
        net = network()
        loss(net, which).backward()  # type: ignore[no-untyped-call]
        return gradients(net)

    net = sharded(network())
    loss(net, rank).backward()  # type: ignore[no-untyped-call]
    return gradients(net), mean_over_tasks(reference)


@case("plain", "loss.backward() through the network, as in any training")
def _plain(rank: int) -> tuple[Gradients, Gradients]:
    return _trained(plain, rank)


@case("state-dict", "state_dict gathered whole, loaded into a network that is not sharded")
def _state_dict(rank: int) -> tuple[Gradients, Gradients]:
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    del rank
    found = get_model_state_dict(sharded(network()), options=StateDictOptions(full_state_dict=True, cpu_offload=False))
    fresh = network()
    for parameter in fresh.parameters():
        parameter.data.zero_()
    fresh.load_state_dict(found)
    return list(fresh.state_dict().values()), list(network().state_dict().values())


@case("autograd-grad", "torch.autograd.grad(loss, net.parameters()): one gradient, no second one")
def _autograd_grad(rank: int) -> tuple[Gradients, Gradients]:
    def of(net: nn.Module, which: int) -> Gradients:
        return whole(list(torch.autograd.grad(plain(net, which), list(net.parameters()))))

    return of(sharded(network()), rank), mean_over_tasks(lambda which: of(network(), which))


@case("create-graph", "torch.autograd.grad(loss, net.parameters(), create_graph=True), and backward through it")
def _create_graph(rank: int) -> tuple[Gradients, Gradients]:
    def penalty(net: nn.Sequential, which: int) -> Tensor:
        found = torch.autograd.grad(plain(net, which), list(net.parameters()), create_graph=True)
        return sum((g.full_tensor() if isinstance(g, DTensor) else g).square().sum() for g in found)  # type: ignore[return-value]

    return _trained(penalty, rank)


@case(
    "input-gradient", "gradient in the input with create_graph=True, and backward through it (a penalty on gradients)"
)
def _input_gradient(rank: int) -> tuple[Gradients, Gradients]:
    def penalty(net: nn.Sequential, which: int) -> Tensor:
        (x, y), _ = task(which)
        x = x.requires_grad_()
        (g,) = torch.autograd.grad(F.cross_entropy(net(x), y), x, create_graph=True)
        return g.square().sum()

    return _trained(penalty, rank)


@case("functional-call", "functional_call(net, other weights, x): one pass with weights that are not the network's own")
def _functional_call(rank: int) -> tuple[Gradients, Gradients]:
    (x, _), _ = task(rank)
    net, plain_net = sharded(network()), network()
    net(x)  # in its first pass FSDP2 takes over whatever weights it meets, for good, and nothing would be shown
    other = {name: 2 * p.detach() for name, p in net.named_parameters()}
    wanted = functional_call(plain_net, {name: 2 * p.detach() for name, p in plain_net.named_parameters()}, (x,))
    return [functional_call(net, other, (x,))], [wanted]


@case("maml-on-shards", "MAML: inner steps on the sharded parameters, by functional_call")
def _maml_on_shards(rank: int) -> tuple[Gradients, Gradients]:
    return _trained(lambda net, which: adapted(net, which, dict(net.named_parameters())), rank)


@case("fomaml-on-shards", "first-order MAML: the same without second derivatives")
def _fomaml_on_shards(rank: int) -> tuple[Gradients, Gradients]:
    return _trained(lambda net, which: adapted(net, which, dict(net.named_parameters()), second_order=False), rank)


@case("unshard-maml", "MAML on weights that net.unshard() gathered, with reshard_after_forward and _after_backward off")
def _unshard_maml(rank: int) -> tuple[Gradients, Gradients]:
    def loss(net: nn.Sequential, which: int) -> Tensor:
        if isinstance(net, FSDPModule):
            net.unshard()
        return adapted(net, which, dict(net.named_parameters()))

    net = network()
    fully_shard(net, reshard_after_forward=False)
    assert isinstance(net, FSDPModule)
    net.set_reshard_after_backward(False)
    loss(net, rank).backward()  # type: ignore[no-untyped-call]
    net.reshard()
    return gradients(net), mean_over_tasks(_maml)


def _distributed(net: nn.Module) -> Weights:
    """Weights divided by rows, without FSDP's hooks."""
    mesh = init_device_mesh("cpu", (2,))
    return {
        name: distribute_tensor(p.detach(), mesh, [Shard(0)]).requires_grad_() for name, p in net.named_parameters()
    }


@case(
    "gathered-maml",
    "MAML on weights that full_tensor() gathers, of a network without hooks; gradient and optimiser on shards",
)
def _gathered_maml(rank: int) -> tuple[Gradients, Gradients]:
    net = network()
    shards = _distributed(net)
    gathered = {name: w.full_tensor(grad_placements=[Partial("avg")]) for name, w in shards.items()}  # type: ignore[attr-defined]
    adapted(net, rank, gathered).backward()  # type: ignore[no-untyped-call]
    return whole([w.grad for w in shards.values()]), mean_over_tasks(_maml)


def _maml(which: int) -> Gradients:
    net = network()
    adapted(net, which, dict(net.named_parameters())).backward()  # type: ignore[no-untyped-call]
    return gradients(net)


def _everywhere(x: Tensor) -> Tensor:
    """The same tensor on every process, as a DTensor: operators take no mixture."""
    found: Tensor = distribute_tensor(x, init_device_mesh("cpu", (2,)), [Replicate()])
    return found


@case("dtensor-maml", "MAML where every weight stays a DTensor (the same task on every process: tensor parallelism)")
def _dtensor_maml(rank: int) -> tuple[Gradients, Gradients]:
    del rank
    net = network()
    shards = _distributed(net)
    support, query = task(0)
    adapted(net, 0, shards, parts=(tuple(map(_everywhere, support)), tuple(map(_everywhere, query)))).backward()  # type: ignore[no-untyped-call, arg-type]
    return whole([w.grad for w in shards.values()]), _maml(0)


@case("func-grad", "torch.func.grad over DTensor weights")
def _func_grad(rank: int) -> tuple[Gradients, Gradients]:
    del rank
    net, ((x, y), _) = network(), task(0)

    def of(weights: Weights, x: Tensor, y: Tensor) -> Gradients:
        found = torch.func.grad(lambda w: F.cross_entropy(functional_call(net, w, (x,)), y))(weights)
        return whole(list(found.values()))

    return of(_distributed(net), _everywhere(x), _everywhere(y)), of(dict(net.named_parameters()), x, y)


@case("func-vmap", "torch.func.vmap of a pass over DTensor weights")
def _func_vmap(rank: int) -> tuple[Gradients, Gradients]:
    del rank
    net, xs = network(), torch.stack([task(which)[0][0] for which in range(2)])

    def of(weights: Weights, xs: Tensor) -> Gradients:
        return whole([torch.func.vmap(lambda x: functional_call(net, weights, (x,)))(xs)])

    return of(_distributed(net), _everywhere(xs)), of(dict(net.named_parameters()), xs)


@case("head-over-frozen", "ANIL's inner steps on a head of its own, over a frozen FSDP2 network")
def _head_over_frozen(rank: int) -> tuple[Gradients, Gradients]:
    def of(shard: bool) -> Gradients:
        net = network()
        body, head = nn.Sequential(*list(net)[:-1]), net[-1]
        body.requires_grad_(False)
        if shard:
            body = sharded(body)
        assert isinstance(head, nn.Linear)
        head_alone(body, head, rank).backward()  # type: ignore[no-untyped-call]
        return gradients(head)

    return of(True), of(False)


@case("head-over-trained", "the same, and the network is meta-trained through the inner steps")
def _head_over_trained(rank: int) -> tuple[Gradients, Gradients]:
    def of(which: int, shard: bool) -> Gradients:
        net = network()
        body, head = nn.Sequential(*list(net)[:-1]), net[-1]
        assert isinstance(head, nn.Linear)
        if shard:
            body = sharded(body)
        head_alone(body, head, which).backward()  # type: ignore[no-untyped-call]
        return gradients(body)

    return of(rank, True), mean_over_tasks(lambda which: of(which, False))


@case(
    "reptile-by-hand",
    "Reptile by hand: an ordinary optimiser makes the inner steps on shards in place; θ - φ shard by shard",
)
def _reptile_by_hand(rank: int) -> tuple[Gradients, Gradients]:
    del rank

    def of(net: nn.Sequential) -> Gradients:
        start = [p.detach().clone() for p in net.parameters()]
        optimizer = torch.optim.SGD(net.parameters(), lr=RATE)
        for _ in range(STEPS):
            optimizer.zero_grad()
            plain(net, 0).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        return whole([before - after.detach() for before, after in zip(start, net.parameters(), strict=True)])

    return of(sharded(network())), of(network())


# --- learners of quickstudy, as they are -------------------------------------------------------------


def _learner(make: Callable[[MLP], AbstractLearner], rank: int) -> tuple[Gradients, Gradients]:
    """A learner whose network is sharded, and the same with whole weights."""

    def of(which: int, shard: bool) -> Gradients:
        torch.manual_seed(0)
        learner = make(MLP(8, hidden=(WIDTH, WIDTH))).double()
        if shard:
            fully_shard(next(module for module in learner.modules() if isinstance(module, MLP)))
        learner.meta_loss(episode(which)).loss.sum().backward()  # type: ignore[no-untyped-call]
        if shard:
            for p in learner.parameters():  # what is not sharded, such as a head, is averaged by who trains it
                if not isinstance(p, DTensor) and p.grad is not None:
                    dist.all_reduce(p.grad)
                    p.grad /= dist.get_world_size()
        return gradients(learner)

    return of(rank, True), mean_over_tasks(lambda which: of(which, False))


@case("protonet", "quickstudy's ProtoNet, its network sharded")
def _protonet(rank: int) -> tuple[Gradients, Gradients]:
    return _learner(ProtoNet, rank)


@case("anil", "quickstudy's ANIL, its network sharded, and the head's gradient averaged by hand")
def _anil(rank: int) -> tuple[Gradients, Gradients]:
    return _learner(lambda net: ANIL(net, WAY), rank)


@case("maml", "quickstudy's MAML, its network sharded")
def _maml_learner(rank: int) -> tuple[Gradients, Gradients]:
    return _learner(lambda net: MAML(net, WAY, inner_steps=STEPS), rank)


@case("fomaml", "quickstudy's FOMAML, its network sharded")
def _fomaml_learner(rank: int) -> tuple[Gradients, Gradients]:
    return _learner(lambda net: FOMAML(net, WAY, inner_steps=STEPS), rank)


@case("reptile", "quickstudy's Reptile, its network sharded")
def _reptile_learner(rank: int) -> tuple[Gradients, Gradients]:
    return _learner(lambda net: Reptile(net, WAY), rank)
