"""One maths, several ways to run it; norms whose statistics are inputs and outputs."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quickstudy.errors import InputError
from quickstudy.learners import KNN, MAML, ProtoNet, Reptile
from quickstudy.nets import MLP, Conv4, apply
from quickstudy.nets.apply import Strategy, choose_strategy, laid_out
from quickstudy.nets.norms import (
    NORMS,
    BatchNorm,
    GroupNorm,
    NormPass,
    TaskNorm,
    absorb_statistics,
    couples_examples,
    make_norm,
    norm_pass,
)
from tests.table import assert_close, numbers

NETS = {
    "conv4-max": lambda norm: Conv4(2, 16, filters=8, norm=norm),
    "conv4-stride": lambda norm: Conv4(2, 10, filters=8, pool="stride", norm=norm, readout="mean"),
    "mlp": lambda norm: MLP(6, (8, 8), norm=norm),
}
SHAPES = {"conv4-max": (2, 16, 16), "conv4-stride": (2, 10, 10), "mlp": (6,)}
STRATEGIES: tuple[Strategy, ...] = ("loop", "vmap", "batched")


def build(kind: str, norm: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = NETS[kind](norm)  # type: ignore[no-untyped-call]
        return net.double()


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("shared", [True, False])
def test_strategies_agree_to_the_second_derivative(kind: str, norm: str, shared: bool) -> None:
    """Outputs, moments, gradients and gradients of gradients, with a ragged mask and NaN in the padding."""
    net, x = build(kind, norm), numbers(kind, 3, 6, *SHAPES[kind])
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[1, 4:], x[1, 4:] = False, float("nan")
    found = {}
    for strategy in STRATEGIES:
        params = {
            name: (p.detach() + 0.1 * numbers(name, 3, *p.shape)).requires_grad_() for name, p in net.named_parameters()
        }
        applied = apply(net, x, params=None if shared else params, mask=mask, strategy=strategy)
        sources = list(net.parameters()) if shared else list(params.values())
        first = torch.autograd.grad(applied.out.square().sum(), sources, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), sources)  # type: ignore[arg-type]
        found[strategy] = [applied.out, *applied.moments.values(), *first, *second]
    for strategy in STRATEGIES[1:]:
        for a, b in zip(found["loop"], found[strategy], strict=True):
            scale = float(a.detach().abs().max()) + 1
            assert_close(a / scale, b / scale, 1e-8 if norm == "group" else 1e-10)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.sampled_from(["none", "layer", "task", "transductive"]))
def test_any_raggedness(sizes: list[int], norm: str) -> None:
    """Every strategy equals each task alone and unpadded."""
    net = build("mlp", norm)
    mask = torch.arange(max(sizes)) < torch.tensor(sizes)[:, None]
    x = numbers("ragged", len(sizes), max(sizes), 6).masked_fill(~mask[..., None], float("nan"))
    strategies: list[Strategy] = ["loop", "vmap", "batched"]
    if not couples_examples(net):
        strategies.append("packed")
    for strategy in strategies:
        out = apply(net, x, mask=mask, strategy=strategy).out
        for t, n in enumerate(sizes):
            assert_close(out[t, :n], apply(net, x[t : t + 1, :n], strategy="loop").out[0], 1e-9)
            assert (out[t, n:] == 0).all()


@pytest.mark.parametrize(
    ("norm", "theirs"),
    [
        ("batch", lambda: nn.BatchNorm2d(6)),
        ("transductive", lambda: nn.BatchNorm2d(6, track_running_stats=False)),
        ("instance", lambda: nn.InstanceNorm2d(6)),
        ("layer", lambda: nn.GroupNorm(1, 6)),
        ("group", lambda: nn.GroupNorm(2, 6)),
    ],
)
def test_norms_equal_torch(norm: str, theirs: Any) -> None:
    mine, other, x = make_norm(norm, 6).double(), theirs().double(), numbers("x", 5, 6, 3, 4)
    assert norm != "group" or (isinstance(mine, GroupNorm) and mine.groups == 2)
    assert_close(mine(x), other(x))
    assert_close(mine.eval()(x), other.eval()(x)) if norm != "batch" else None


@pytest.mark.parametrize("strategy", ["loop", "batched"])
def test_running_statistics_equal_torch_task_by_task(strategy: Strategy) -> None:
    """After a training pass and ``absorb_statistics``: torch's own buffers after each task in turn."""
    net, x = nn.Sequential(BatchNorm(6)).double(), numbers("x", 4, 5, 6, 3, 4)
    mlp, flat = MLP(6, (7,), norm="batch").double(), numbers("flat", 4, 5, 6)
    if strategy == "loop":
        absorb_statistics(net, apply(net, x, strategy=strategy).carried)
        other = nn.BatchNorm2d(6).double()
        for task in x:
            other(task)
        mine = net[0]
    else:
        absorb_statistics(mlp, apply(mlp, flat, strategy=strategy).carried)
        other = nn.BatchNorm1d(7).double()  # type: ignore[assignment]
        for task in flat:
            other(mlp.linears[0](task))
        mine = mlp.norms[0]
    assert isinstance(mine, BatchNorm)
    assert_close(mine.running_mean, other.running_mean)  # type: ignore[arg-type]
    assert_close(mine.running_var, other.running_var)  # type: ignore[arg-type]
    net.eval()
    other.eval()
    if strategy == "loop":
        assert_close(apply(net, x).out[0], other(x[0]))


def test_task_norm_against_the_formula() -> None:
    """The paper's mixture of support and own moments, in NumPy, support first, then a query."""
    layer, support, query = TaskNorm(3).double(), numbers("s", 4, 3, 5, 5), numbers("q", 2, 3, 5, 5)
    with torch.no_grad():
        layer.scale.fill_(0.2)
        layer.offset.fill_(-0.5)
        layer.weight.copy_(torch.tensor([0.5, 1.0, 2.0]))
    blend = 1 / (1 + math.exp(-(0.2 * 4 - 0.5)))

    def expected(x: Tensor) -> Tensor:
        mean_s, var_s = support.mean((0, 2, 3)), support.var((0, 2, 3), correction=0)
        rows = []
        for row in x:
            mean_i, var_i = row.mean((1, 2)), row.var((1, 2), correction=0)
            mean = blend * mean_s + (1 - blend) * mean_i
            var = blend * (var_s + (mean_s - mean) ** 2) + (1 - blend) * (var_i + (mean_i - mean) ** 2)
            normal = (row - mean[:, None, None]) / (var + 1e-5).sqrt()[:, None, None]
            rows.append(normal * layer.weight[:, None, None] + layer.bias[:, None, None])
        return torch.stack(rows)

    names: dict[nn.Module, str] = {layer: "norm"}
    with norm_pass(NormPass(names)) as of_support:
        assert_close(layer(support), expected(support))
    with norm_pass(NormPass(names, given=of_support.measured)):
        assert_close(layer(query), expected(query))


def test_parts_of_a_network_can_have_weights_of_their_own() -> None:
    net, x = build("mlp", "layer"), numbers("x", 3, 4, 6)
    params = {"linears.1.bias": numbers("b", 3, 8)}
    outs = [apply(net, x, params=params, strategy=strategy).out for strategy in STRATEGIES]
    assert_close(outs[0], outs[1])
    assert_close(outs[0], outs[2])
    assert not torch.allclose(outs[0], apply(net, x).out)


def test_the_choice_of_strategy() -> None:
    x = torch.zeros(2, 3, 6)
    assert choose_strategy(MLP(6), x, shared=True) == "packed"
    assert choose_strategy(MLP(6), x, shared=False) == "batched"
    assert choose_strategy(MLP(6), x[:1], shared=False) == "batched"
    assert choose_strategy(Conv4(pool="stride"), x[:1], shared=False) == "loop"
    assert choose_strategy(Conv4(), x, shared=False) == "loop"
    assert choose_strategy(Conv4(pool="stride"), x, shared=False) == "batched"
    assert choose_strategy(nn.Sequential(nn.Linear(6, 2)), x, shared=False) == "loop"
    assert choose_strategy(MLP(6, norm="batch"), x, shared=True) == "batched"
    assert choose_strategy(MLP(6, norm="batch").eval(), x, shared=True) == "packed"
    assert choose_strategy(nn.Sequential(nn.BatchNorm1d(6)), x, shared=True) == "loop"


def test_channels_last_keeps_the_values() -> None:
    x = numbers("x", 2, 1, 5, 4)
    out = laid_out(Conv4(), x)
    assert isinstance(out, Tensor) and torch.equal(out, x) and out.stride() == (20, 1, 4, 1)


class Flattens(nn.Module):
    """The commonest idiom of few-shot code, which channels-last layout would break."""

    out_features = 2 * 4 * 4

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x)).view(x.size(0), -1)


@pytest.mark.parametrize("strategy", ["packed", "loop", "vmap"])
def test_networks_that_flatten_with_view(strategy: Strategy) -> None:
    net, x = Flattens().double(), numbers("view", 2, 5, 3, 4, 4)
    assert_close(apply(net, x, strategy=strategy).out[1], net(x[1]))


def test_foreign_layers_that_see_several_rows_are_looped_over_unpadded() -> None:
    net, x = nn.Sequential(nn.BatchNorm1d(6, track_running_stats=False)).double(), numbers("x", 2, 4, 6)
    mask = torch.tensor([[True] * 4, [True, True, True, False]])
    assert_close(apply(net, x, mask=mask).out[1, :3], net(x[1, :3]))
    with pytest.raises(InputError, match=r"Strategy 'vmap' cannot run ragged tasks through a layer that looks at"):
        apply(net, x, mask=mask, strategy="vmap")


@pytest.mark.parametrize("layer", [nn.InstanceNorm1d(6, track_running_stats=True), nn.BatchNorm1d(6)])
def test_foreign_buffers_are_returned_and_not_written(layer: nn.Module) -> None:
    net = nn.Sequential(layer).double().train()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    applied = apply(net, numbers("x", 3, 4, 6, 5))
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert applied.buffers["0.running_mean"].shape == (3, 6)
    assert not torch.equal(applied.buffers["0.running_mean"][0], applied.buffers["0.running_mean"][2])


def test_norms_called_directly_behave_like_any_module() -> None:
    mine, other = BatchNorm(6).double(), nn.BatchNorm1d(6).double()
    for _ in range(3):
        mine(numbers("direct", 5, 6))
        other(numbers("direct", 5, 6))
    assert_close(mine.running_mean, other.running_mean)  # type: ignore[arg-type]
    assert_close(mine.eval()(numbers("x", 2, 6)), other.eval()(numbers("x", 2, 6)))


def test_a_norm_used_twice_is_refused() -> None:
    norm = TaskNorm(6)
    with pytest.raises(InputError, match=r"The norm '0' is used twice in one call of the network"):
        apply(nn.Sequential(norm, norm), torch.ones(2, 3, 6))


REFUSED: list[tuple[Any, str]] = [
    (
        lambda: apply(MLP(6, norm="batch"), torch.zeros(2, 3, 6), strategy="packed"),
        r"Strategy 'packed' would mix tasks",
    ),
    (
        lambda: apply(nn.Sequential(nn.Linear(6, 2)), torch.zeros(2, 3, 6), strategy="batched"),
        r"Strategy 'batched' needs a network with a batched form .* Sequential has none",
    ),
    (
        lambda: apply(nn.Sequential(nn.BatchNorm1d(6)), torch.zeros(2, 3, 6), strategy="vmap"),
        r"Strategy 'vmap' cannot run layers in training mode that write into their buffers",
    ),
    (lambda: make_norm("bach", 4), r"There is no norm called 'bach'\. Known: batch, transductive, task"),
    (lambda: GroupNorm(6, 4), r"Cannot split 6 channels into 4 equal groups"),
    (lambda: Conv4(1, 8), r"Cannot halve pictures of 8 pixels four times"),
    (
        lambda: Conv4(1, (17, 23)),  # type: ignore[arg-type]
        r"Conv-4 takes square pictures: .* received \(17, 23\)",
    ),
    (
        lambda: Conv4(1, 28)(torch.zeros(2, 3, 28, 28)),
        r"built for pictures of shape \[1, 28, 28\], received \[3, 28, 28\]",
    ),
    (lambda: MLP(6)(torch.zeros(2, 5)), r"built for 6 inputs an example, received 5"),
    (lambda: MLP(6, (-3,)), r"An MLP's layers need at least one unit each, received 6 and \(-3,\)"),
    (lambda: Conv4(filters=0), r"Conv-4 needs at least one channel and one filter, received 1 and 0"),
    (lambda: ProtoNet(MLP(6), temperature=0), r"ProtoNet needs a temperature above 0, received 0"),
    (lambda: KNN(MLP(6, norm="task")), r"This baseline needs features that do not depend on the examples beside one"),
    (lambda: Reptile(MLP(6), 3, inner_batch=0), r"Reptile needs at least one inner step and one row a minibatch"),
    (lambda: Reptile(MLP(6), 3, inner_steps=0), r"Reptile needs at least one inner step"),
    (lambda: MAML(MLP(6), 3, inner_lr=-0.1), r"Inner learning rates must be numbers of at least 0, received -0\.1"),
    (lambda: MLP(6, ()), r"An MLP needs at least one hidden layer"),
    (lambda: MAML(MLP(6, norm="batch"), 3), r"Layer 'norms\.0' keeps running statistics, .* Use norm='task'"),
    (lambda: MAML(nn.Sequential(nn.BatchNorm1d(6)), 3, head="none"), r"Layer '0' keeps running statistics"),
    (lambda: MAML(MLP(6, norm="transductive"), 3), r"normalises with the current rows, .* transductive=True"),
    (lambda: MAML(MLP(6), 3, transductive=True), r"transductive=True needs a network whose norms use the current rows"),
    (lambda: MAML(MLP(6)), r"head='fixed' needs to know its size: pass outputs="),
    (
        lambda: MAML(nn.Sequential(nn.Linear(6, 4)), 3),
        r"Cannot build a head on Sequential: its feature size is not known",
    ),
    (
        lambda: MAML(MLP(6), 1, "real", head="proto"),
        r"head='proto' makes a row for each class, but the targets are real",
    ),
    (lambda: MAML(MLP(6), head="shared", inner_steps=1), r"head='shared' needs at least 2 inner steps, received 1"),
    (lambda: MAML(MLP(6), 3, inner_steps=-1), r"Inner steps cannot be negative"),
    (
        lambda: apply(MLP(6), torch.zeros(2, 3, 6), params=own_weights(2), strategy="packed"),
        r"Strategy 'packed' shares θ between tasks and takes no weights or norm moments of each task's own",
    ),
    (
        lambda: apply(MLP(6), torch.zeros(2, 3, 6), given={"norms.0.mean": torch.zeros(2, 40)}, strategy="packed"),
        r"Strategy 'packed' shares θ between tasks",
    ),
    (
        lambda: apply(MLP(6), torch.zeros(2, 3, 6), strategy=cast(Any, "lop")),
        r"There is no strategy 'lop'\. Use one of",
    ),
    (
        lambda: MAML(nn.Sequential(nn.InstanceNorm1d(6, track_running_stats=True), nn.Linear(6, 3)), 3, head="none"),
        r"Layer '0' keeps running statistics",
    ),
]


def own_weights(n_task: int) -> dict[str, Tensor]:
    return {name: p.detach().expand(n_task, *p.shape) for name, p in MLP(6).named_parameters()}


@pytest.mark.parametrize("strategy", ["auto", *STRATEGIES])
def test_weights_that_are_not_the_network_s_are_refused(strategy: Strategy) -> None:
    """A name with a slip in it would leave the network as it is; a task too few would meet another task's weights."""
    with pytest.raises(
        InputError, match=r"MLP has no weight 'net\.linears\.0\.weight'\. Name weights as its named_par"
    ):
        weights = {f"net.{name}": p for name, p in own_weights(2).items()}
        apply(MLP(6), torch.zeros(2, 3, 6), params=weights, strategy=strategy)
    with pytest.raises(
        InputError, match=r"Expected the weight 'linears\.0\.weight' once for each of 2 tasks, \[2, .*\[3,"
    ):
        apply(MLP(6), torch.zeros(2, 3, 6), params=own_weights(3), strategy=strategy)


@pytest.mark.parametrize(("attempt", "message"), REFUSED)
def test_refusals(attempt: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attempt()


def test_a_gradient_based_learner_with_a_frozen_network_has_nothing_to_adapt() -> None:
    with pytest.raises(InputError, match=r"Nothing to adapt: every parameter of the network is frozen"):
        MAML(nn.Sequential(nn.Linear(6, 3)).requires_grad_(False), 3, head="none")
    assert ProtoNet(MLP(6)).traits.incremental


def test_frozen_parts_stay() -> None:
    """What requires no gradient when the learner is built is neither adapted nor trained."""
    net = MLP(4, (6, 5))
    net.linears[0].requires_grad_(False)
    learner = MAML(net, 3, inner_steps=2)
    assert sorted(learner.model.adapted) == ["head.bias", "head.weight", "net.linears.1.bias", "net.linears.1.weight"]


@pytest.mark.parametrize("n", [1, 127, 128, 129, 300])
def test_many_rows_are_computed_in_portions(n: int) -> None:
    net, x = build("mlp", "layer"), numbers("many", 2, n, 6)
    assert_close(apply(net, x, strategy="packed").out, apply(net, x, strategy="loop").out)


@pytest.mark.parametrize("strategy", ["auto", "loop", "vmap", "batched"])
def test_whole_numbers_for_a_network_of_floats(strategy: Strategy) -> None:
    with pytest.raises(
        InputError, match=r"MLP cannot read these inputs, which are whole numbers \(torch.int64\).*x.float"
    ):
        apply(MLP(3), torch.ones(2, 4, 3, dtype=torch.int64), strategy=strategy)
    if strategy != "batched":
        with pytest.raises(InputError, match=r"LayerNorm cannot read these inputs, which are whole numbers"):
            apply(nn.LayerNorm(3), torch.ones(2, 4, 3, dtype=torch.int64), strategy=strategy)


class Tokens(nn.Module):
    """Reads token ids; some of its own mistakes have nothing to do with whole numbers."""

    def __init__(self, error: Exception | None = None) -> None:
        super().__init__()
        self.embedding, self.places, self.error = nn.Embedding(4, 3), nn.Parameter(torch.zeros(5, 3)), error

    def forward(self, x: Tensor) -> Tensor:
        if self.error is not None:
            raise self.error
        embedded: Tensor = self.embedding(x)
        return (embedded + self.places).mean(1)


def test_other_mistakes_of_a_network_that_reads_whole_numbers() -> None:
    """Too long a text is called that; what says nothing of the inputs stays as it is."""
    with pytest.raises(
        InputError, match=r"Tokens cannot read examples of this shape, x \[7\]: .*tensor a \(7\) must match"
    ):
        apply(Tokens(), torch.ones(1, 2, 7, dtype=torch.int64))
    full = Tokens(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory"):
        apply(full, torch.ones(1, 2, 5, dtype=torch.int64))


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("kind", sorted({*NORMS} - {"none"}))
@pytest.mark.parametrize("channels", [3, 7])
def test_a_norm_of_another_size_is_refused(kind: str, channels: int, training: bool) -> None:
    """torch's fused kernel does not look, and would read past the end of the weights."""
    norm = make_norm(kind, channels).train(training)
    for x in (torch.ones(5, 4), torch.ones(5, 4, 2, 2)):
        with pytest.raises(InputError, match=rf"A norm was built for {channels} channels, but meets 4"):
            norm(x)


def test_examples_of_another_shape() -> None:
    expected = r"Linear cannot read examples of this shape, x \[3\]: .*2x3 and 5x4.*\. Give it what it was built for"
    with pytest.raises(InputError, match=expected):
        apply(nn.Linear(5, 4), torch.ones(1, 2, 3))
