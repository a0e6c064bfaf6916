"""A meta-step that was traced gives what the learner gives, for tasks and weights that it was not traced with."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx, nn

from quickstudy import api, native
from quickstudy.data import Sinusoid
from quickstudy.doctor.smalltasks import ragged_of
from quickstudy.episode import Episode, EpisodeError, Examples, Real, may_read, values_unread
from quickstudy.errors import InputError, NonFiniteLoss
from quickstudy.keys import Key
from quickstudy.learners import MAML, AbstractLearner, ProtoNet
from quickstudy.nets import MLP
from quickstudy.nets.maps import C
from quickstudy.train import History, fit
from quickstudy.train.compiled import Compiled, remark
from quickstudy.train.contexts import global_generators
from quickstudy.train.cudagraph import captured, waits
from quickstudy.train.tracing import Inventory, leaves_of, signature, trace
from tests.table import ROWS, Row, make, tasks
from tests.train.inturn import side_by_side, values
from tests.train.small import Small

REFUSED = """reptile reptile-sgd reptile-shared reptile-real reptile-lora reptile-multi-label reptile-published
 maml++ maml++-checkpointed maml++-test-steps maml++-shared maml++-proto maml++-transductive maml++-first-order
 maml++-real imaml-newton feat lr-d2-multinomial metaoptnet metaoptnet-large-c metaoptnet-identity
 metaoptnet-batchnorm mann mann-batchnorm mann-given snail snail-tasknorm snail-conv4 snail-given snail-real
 in-context in-context-batchnorm tabular tabular-real""".split()
"""They read values (how many steps to take, how many rows there are) or draw from their key in each meta-step."""
QUICK = """maml-multi-label maml-head-proto maml-lora-tasknorm maml-smooth-conv fomaml anil-real
 metasgd protomaml imaml-real cavia protonet matching relation r2d2-batchnorm dkt-rbf-batchnorm lr-d2 simple-cnaps cnp
 acnp metaoptnet-ridge""".split()
"""One or two of each family; the others are traced in the slow tests."""


def trainable() -> list[Row]:
    rows = []
    for row in ROWS:
        traits = make(row).traits
        if traits.trainable and "episodes" in traits.phases:
            rows.append(row)
    return rows


EVERY = trainable()


def others(episode: Episode, seed: int) -> Episode:
    """Other tasks of the same sizes: inputs moved, rows (with their labels and masks) in another order."""
    generator = torch.Generator().manual_seed(seed)

    def part(examples: Examples) -> Examples:
        order = torch.randperm(examples.n_example, generator=generator)
        assert isinstance(examples.x, Tensor) and examples.y is not None
        x = examples.x + 0.3 * torch.randn(examples.x.shape, generator=generator, dtype=examples.x.dtype)
        mask = None if examples.mask is None else examples.mask[:, order]
        return replace(examples, x=x[:, order], y=examples.y[:, order], mask=mask)

    return replace(episode, support=part(episode.support), query=part(episode.query))


def move_weights(learner: nn.Module, step: int) -> None:
    with torch.no_grad():
        for number, p in enumerate(learner.parameters()):
            p.add_(0.05 * torch.sin(torch.arange(p.numel(), dtype=p.dtype) + number + step).reshape(p.shape))


def assert_equal_steps(learner: AbstractLearner, compiled: Compiled, episode: Episode, seed: int = 0) -> None:
    """Losses, logs, what is carried and the gradients, as the learner itself gives them."""
    found: list[dict[str, Tensor | None]] = []
    for way in ("eager", "compiled"):
        learner.zero_grad()
        # Layers that draw (dropout) draw the same.
        with global_generators(torch.device("cpu"), Key.of(seed)):
            if way == "eager":
                out = learner.meta_loss(episode)
                (out.loss.sum() / 7).backward()  # type: ignore[no-untyped-call]
            else:
                out, backward = compiled(episode, of=7)
                assert not out.loss.requires_grad
                backward()
        mine: dict[str, Tensor | None] = {"loss": out.loss.detach()}
        mine |= {f"log {name}": value for name, value in out.logs.items()}
        mine |= {f"carried {name}": value for name, value in out.carried.items()}
        mine |= {f"grad {name}": None if p.grad is None else p.grad.clone() for name, p in learner.named_parameters()}
        found.append(mine)
    eager, played = found
    assert eager.keys() == played.keys()
    for name, value in eager.items():
        other = played[name]
        assert (value is None) == (other is None), name
        if value is not None and other is not None:
            torch.testing.assert_close(other, value, rtol=1e-10, atol=1e-10, msg=f"{name} differs")


def follow(row: Row, base: Episode, *, training: bool) -> None:
    """Three steps, whose tasks, weights and buffers differ, by one trace of the first."""
    learner = make(row).train(training)
    compiled = Compiled(learner, "trace")
    for step in range(3):
        episode = others(base, step)
        assert_equal_steps(learner, compiled, episode, step)
        with torch.no_grad():
            learner.absorb(learner.meta_loss(episode).carried)
        move_weights(learner, step)
    assert compiled.traced == 1


@pytest.mark.parametrize("row", [row for row in EVERY if row.name in QUICK], ids=lambda row: row.name)
def test_a_trace_equals_the_learner(row: Row) -> None:
    follow(row, tasks(row.target), training=True)


@pytest.mark.parametrize("row", [row for row in EVERY if row.name in QUICK[::3]], ids=lambda row: row.name)
def test_a_trace_of_ragged_tasks(row: Row) -> None:
    any_way = make(row).traits.any_way
    follow(row, ragged_of(tasks(row.target), float("nan"), any_way=any_way), training=True)


@pytest.mark.slow
@pytest.mark.parametrize("row", [row for row in EVERY if row.name not in REFUSED], ids=lambda row: row.name)
@pytest.mark.parametrize("kind", ["training", "eval", "ragged"])
def test_every_learner(row: Row, kind: str) -> None:
    base = tasks(row.target)
    if kind == "ragged":
        base = ragged_of(base, float("nan"), any_way=make(row).traits.any_way)
    follow(row, base, training=kind != "eval")


@pytest.mark.parametrize("row", [row for row in EVERY if row.name in REFUSED], ids=lambda row: row.name)
def test_what_cannot_be_traced_is_refused(row: Row) -> None:
    """What depends on values or draws from its key: a trace would hold the first task's for ever."""
    learner = make(row).train()
    why = r"(draws random numbers in each meta-step|reads the values of a tensor|uses a tensor that is no parameter)"
    with pytest.raises(InputError, match=rf"Cannot compile {type(learner).__name__}: it {why} \(\w+\.py:\d+ in .*'no'"):
        Compiled(learner, "trace")(tasks(row.target))


# --- what must not become a constant ------------------------------------------------------------


def sinusoid(dtype: torch.dtype = torch.float64, n_task: int = 4, shot: int = 5) -> Episode:
    x = torch.linspace(-5, 5, n_task * shot * 2, dtype=dtype).reshape(n_task, 2 * shot, 1)
    y = torch.sin(x + torch.arange(n_task)[:, None, None])
    return Episode(Examples(x[:, :shot], y[:, :shot], Real(1)), Examples(x[:, shot:], y[:, shot:], Real(1)))


def small_maml(**options: object) -> MAML:
    torch.manual_seed(0)
    return MAML(MLP(1, (8, 8)), 1, "real", inner_steps=2, inner_lr=0.05, **options).double()  # type: ignore[arg-type]


def change_lr(learner: MAML) -> None:
    learner.loop.lr = 0.2


def change_steps(learner: MAML) -> None:
    learner.loop.steps = 3


def change_order(learner: MAML) -> None:
    learner.loop.first_order = True


def freeze_a_weight(learner: MAML) -> None:
    learner.model.head.bias.requires_grad_(False)


@pytest.mark.parametrize("change", [change_lr, change_steps, change_order, freeze_a_weight])
def test_settings_that_change_are_traced_anew(change: Callable[[MAML], None]) -> None:
    learner = small_maml()
    compiled = Compiled(learner, "trace")
    assert_equal_steps(learner, compiled, sinusoid())
    change(learner)
    assert_equal_steps(learner, compiled, sinusoid())
    assert compiled.traced == 2


def test_weights_of_another_type_are_traced_anew() -> None:
    """The tasks are the same: pictures and the like become what the weights are."""
    learner = make(next(row for row in EVERY if row.name == "maml-head-proto"), torch.float32).train()
    compiled = Compiled(learner, "trace")
    out, _ = compiled(tasks())
    assert out.loss.dtype == torch.float32
    learner.double()
    assert_equal_steps(learner, compiled, tasks())
    assert compiled.traced == 2


def test_weights_laid_out_otherwise_are_told_apart() -> None:
    net = nn.Conv2d(2, 3, 3)
    held = [Inventory.of(net).settings]
    net.weight.data = net.weight.data.contiguous(memory_format=torch.channels_last)
    held += [Inventory.of(net).settings]
    held += [Inventory.of(nn.Conv2d(2, 3, 3, device="meta")).settings, Inventory.of(nn.Conv2d(2, 3, 5)).settings]
    held += [Inventory.of(nn.BatchNorm1d(2)).settings, Inventory.of(nn.BatchNorm1d(2).double()).settings]
    assert len(set(held)) == 6


class Scaled(nn.Module):
    """A network with a setting of its own that it keeps to itself, and a layer that can be exchanged."""

    out_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.first, self.act, self._scale = nn.Linear(1, 3), nn.Tanh(), 1.0

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 1] -> [N, 3]``."""
        return self._scale * self.act(self.first(x))  # type: ignore[no-any-return]


def test_private_settings_and_other_layers_are_traced_anew() -> None:
    net = Scaled()
    learner = MAML(net, 1, "real", inner_steps=2).double()
    compiled = Compiled(learner, "trace")
    assert_equal_steps(learner, compiled, sinusoid())
    net._scale = 2.0
    assert_equal_steps(learner, compiled, sinusoid())
    net.act = nn.Sigmoid()  # type: ignore[assignment]
    assert_equal_steps(learner, compiled, sinusoid())
    assert compiled.traced == 3


def test_dropout_draws_anew_in_each_step() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Dropout(0.5))
    learner = MAML(net, 1, "real", inner_steps=1, out_features=8).double().train()
    compiled = Compiled(learner, "trace")
    for seed in range(3):
        assert_equal_steps(learner, compiled, sinusoid(), seed)
    learner.eval()
    assert_equal_steps(learner, compiled, sinusoid())
    assert compiled.traced == 2


class Alike(nn.Module):
    """Operators that look alike and are not: draws, of which one has no use, and numbers of another type."""

    out_features = 1

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 1] -> [N, 1]``."""
        y: Tensor = self.linear(x)
        torch.rand_like(y)
        y = y + torch.rand_like(y) - torch.rand_like(y)
        two, one = torch.full((1,), 1), torch.full((1,), True)
        return y * (two + two) + y * (one + one)


def test_operators_that_look_alike_are_not_joined() -> None:
    learner = MAML(Alike(), 1, "real", head="none", inner_steps=1).double()
    compiled = Compiled(learner, "trace")
    for seed in range(2):
        assert_equal_steps(learner, compiled, sinusoid(), seed)


class Odd(nn.Module):
    """A network with a fault of each kind that a trace would hide."""

    out_features = 1

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.linear, self.kind, self.held = nn.Linear(1, 1), kind, [torch.full((1,), 2.0).double()]

    def forward(self, x: Tensor) -> Tensor:
        """``[N, 1] -> [N, 1]``."""
        y: Tensor = self.linear(x)
        if self.kind == "branch":
            return y if bool(x.sum() > 0) else -y
        if self.kind == "item":
            return y * x.max().item()
        if self.kind == "numpy":
            return y * float(x.detach().numpy().max())
        if self.kind == "rows":
            return y + x[x > 0].sum()
        return y * self.held[0]


@pytest.mark.parametrize("kind", ["branch", "item", "numpy", "rows", "held"])
def test_a_network_that_reads_values_is_refused(kind: str) -> None:
    learner = MAML(Odd(kind), 1, "real", head="none", inner_steps=1).double()
    with pytest.raises(InputError, match=r"Cannot compile MAML: .*test_compiled\.py:\d+ in forward"):
        Compiled(learner, "trace")(sinusoid())


def test_weights_that_are_tied_have_one_gradient() -> None:
    class Tied(nn.Module):
        out_features = 4

        def __init__(self) -> None:
            super().__init__()
            self.first, self.second, self.into = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(1, 4)
            self.second.weight = self.first.weight

        def forward(self, x: Tensor) -> Tensor:
            """``[N, 1] -> [N, 4]``."""
            return self.second(torch.tanh(self.first(self.into(x))))  # type: ignore[no-any-return]

    learner = MAML(Tied(), 1, "real", inner_steps=2).double()
    assert_equal_steps(learner, Compiled(learner, "trace"), sinusoid())


# --- which traces are kept ----------------------------------------------------------------------


def test_other_shapes_are_traced_anew_and_the_oldest_forgotten() -> None:
    learner = small_maml()
    compiled = Compiled(learner, "trace", kept=2)
    for shot, traced in ((5, 1), (6, 2), (5, 2), (7, 3), (5, 3), (6, 4)):
        assert_equal_steps(learner, compiled, sinusoid(shot=shot))
        assert compiled.traced == traced
    assert compiled.seconds > 0


def test_what_tells_episodes_apart() -> None:
    whole = tasks()
    kinds = [whole, tasks(way=4), tasks(shot=2), tasks("multi-label"), tasks("real"), ragged_of(whole)]
    kinds.append(tasks(dtype=torch.float32))
    assert len({signature(episode) for episode in kinds}) == len(kinds)
    assert signature(others(whole, 1)) == signature(whole)
    held = [Inventory.of(learner) for learner in (small_maml(), small_maml(), small_maml(first_order=True))]
    assert held[0].settings == held[1].settings != held[2].settings
    # Every tensor is an input: none of an episode's can be held by a trace.
    full = replace(whole, support=replace(whole.support, side={"a": torch.zeros(3)}), index=torch.arange(3))
    assert len(leaves_of(full)) == len(leaves_of(whole)) + 2


@pytest.mark.parametrize(
    ("options", "said"),
    [({"how": "fast"}, "no way to compile called 'fast'. Use one of trace, inductor"), ({"kept": 0}, "kept=0")],
)
def test_options_that_make_no_sense(options: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        Compiled(small_maml(), **({"how": "trace"} | options))  # type: ignore[arg-type]


# --- values are looked at outside ---------------------------------------------------------------


def test_nan_in_a_task_is_found_before_it_is_computed() -> None:
    learner, episode = small_maml(), sinusoid()
    compiled = Compiled(learner, "trace")
    compiled(episode)
    assert isinstance(episode.query.x, Tensor)
    bad = replace(episode, query=replace(episode.query, x=episode.query.x.masked_fill(episode.query.x > 4, torch.nan)))
    with pytest.raises(EpisodeError, match=r"query\.x: expected finite numbers, found NaN or infinity in task 3"):
        compiled(bad)


def test_unread_values() -> None:
    nan = Examples(torch.full((1, 2, 1), torch.nan), torch.zeros(1, 2, 1), Real(1))
    with values_unread(max_way=9):
        assert not may_read()
        nan.check()
        assert tasks().support.max_way == 9
    assert may_read()
    assert tasks().support.max_way == 3
    with pytest.raises(EpisodeError, match="finite"):
        nan.check()


# --- in training --------------------------------------------------------------------------------


def trained(learner: AbstractLearner, how: str, **options: object) -> tuple[dict[str, Tensor], list[dict[str, object]]]:
    history = History()
    source = options.pop("source", None) or Sinusoid().tasks("train", shot=4, seed=0)
    fit(learner, source, steps=20, callbacks=[history], compile=how, **options)  # type: ignore[arg-type]
    return {name: value.clone() for name, value in learner.state_dict().items()}, history.steps


def test_training_gives_the_same_weights() -> None:
    """Portions of 3, 3 and 1 tasks: two shapes."""
    found = [trained(small_maml(), how, tasks_per_step=7, tasks_at_once=3) for how in ("no", "trace")]
    for name, value in found[0][0].items():
        torch.testing.assert_close(found[1][0][name], value, rtol=1e-10, atol=1e-10)
    for a, b in zip(found[0][1], found[1][1], strict=True):
        assert {n: v for n, v in a.items() if n != "phase"} == pytest.approx(
            {n: b[n] for n in a if n != "phase"}, rel=1e-9
        )


def test_training_carries_batch_moments() -> None:
    from quickstudy.data import Glyphs

    source = Glyphs(examples=8).tasks("train", way=3, shot=2, query=2, seed=0)
    found = []
    for how in ("no", "trace"):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Flatten(), MLP(784, (8,), norm="batch"))
        found.append(trained(ProtoNet(net).double(), how, source=source, tasks_per_step=3, optimizer="sgd", lr=0.1)[0])
    assert any("running_mean" in name and value.abs().sum() > 0 for name, value in found[0].items())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_task", [7, 1])
def test_ranks_play_traces_of_their_own(n_task: int) -> None:
    """Four and three tasks, which are two shapes; or one, of which the second rank has none."""
    options = {"tasks_per_step": n_task, "optimizer": "sgd", "lr": 0.01}
    whole = trained(small_maml(), "no", **options)
    divided = values(side_by_side(lambda ranks: trained(small_maml(), "trace", ranks=ranks, **options), 2))
    for state, _ in divided:
        for name, value in whole[0].items():
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)
    assert [step["loss"] for step in divided[0][1]] == pytest.approx([step["loss"] for step in whole[1]])
    assert not divided[1][1]


def test_ranks_that_play_traces_carry_batch_moments() -> None:
    row = next(row for row in EVERY if row.name == "r2d2-batchnorm")
    options = {"source": Small(), "tasks_per_step": 5, "optimizer": "sgd", "lr": 0.01}
    whole = trained(make(row), "no", **options)[0]
    assert any("running_mean" in name and value.abs().sum() > 0 for name, value in whole.items())
    for state, _ in values(side_by_side(lambda ranks: trained(make(row), "trace", ranks=ranks, **options), 2)):
        for name, value in whole.items():
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10)


def test_what_cannot_be_traced_is_refused_on_all_ranks() -> None:
    row = next(row for row in EVERY if row.name == "reptile")
    options = {"source": Small(), "tasks_per_step": 5}
    for found in side_by_side(lambda ranks: trained(make(row), "trace", ranks=ranks, **options), 2):
        assert isinstance(found, InputError) and "Cannot compile Reptile" in str(found)


def test_training_that_diverges_is_stopped() -> None:
    learner = small_maml()
    learner.loop.lr = 1e200
    with pytest.raises(NonFiniteLoss, match="The loss of task 0 became"):
        trained(learner, "trace")


# --- where a trace is slower --------------------------------------------------------------------

CPU = torch.device("cpu")


@pytest.mark.skipif(not C.there(), reason="no C compiler")
def test_that_a_trace_does_without_the_kernels_in_c_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = {"train.steps": 2, "train.validate-every": 0, "train.compile": "trace"}
    with caplog.at_level(logging.WARNING):
        api.train("sinusoid-maml", overrides=overrides, runs=tmp_path, device="cpu")
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("compile: a trace runs torch's operators and not the kernels in C")
    assert said == remark("trace", "float64", CPU) == remark("trace", "tf32", CPU)


def test_nothing_is_said_where_a_trace_is_not_known_to_be_slower(monkeypatch: pytest.MonkeyPatch) -> None:
    assert remark("inductor", "float32", CPU) is remark("no", "float32", CPU) is None
    assert remark("trace", "bf16", CPU) is remark("trace", "float32", torch.device("cuda")) is None
    with native.kernels("torch"):
        assert remark("trace", "float32", CPU) is None
    monkeypatch.setattr(C, "there", lambda: False)  # no compiler
    assert remark("trace", "float32", CPU) is None


# --- the graph, and the ways to run it ----------------------------------------------------------


def test_the_graph_never_waits_for_a_device() -> None:
    """What a CUDA graph needs; the trace of each learner that has one holds it as well."""
    for row in EVERY:
        if row.name in QUICK[::3]:
            assert waits(trace(make(row).train(), tasks(row.target)).graph) == [], row.name


def test_an_operator_that_waits_is_named() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.output(graph.call_function(torch.ops.aten.nonzero.default, (x,)))
    module = fx.GraphModule(nn.Module(), graph)
    assert waits(module) == ["aten.nonzero.default"]
    with pytest.warns(
        UserWarning, match="without a CUDA graph, one launch an operator: the host would wait for aten.n"
    ):
        program = captured(lambda flat: [module(*flat)], module, 0)
    assert program([torch.tensor([0, 1])])[0].tolist() == [[1]]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a graph can be captured here")
def test_where_no_graph_can_be_captured_the_step_runs_as_it_is() -> None:
    graph = fx.Graph()
    graph.output([graph.call_function(torch.ops.aten.neg.default, (graph.placeholder("x"),))])
    module = fx.GraphModule(nn.Module(), graph)
    program = captured(lambda flat: module(*flat), module, 0)
    with pytest.warns(UserWarning, match="runs without a CUDA graph"):
        assert program([torch.ones(2)])[0].tolist() == [-1, -1]
    assert program([torch.ones(1)])[0].tolist() == [-1]  # told once


def test_without_a_compiler_the_step_is_traced(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_compiler(*args: object, **kwargs: object) -> None:
        raise RuntimeError("No working C++ compiler found.")

    monkeypatch.setattr("torch._inductor.compile", no_compiler)
    learner = small_maml()
    compiled = Compiled(learner, "inductor")
    with pytest.warns(
        UserWarning, match=r"inductor cannot compile .* on this machine \(No working C\+\+ compiler found\)"
    ):
        compiled(sinusoid())
    assert_equal_steps(learner, compiled, sinusoid())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["maml-lora-tasknorm", "protonet", "r2d2-batchnorm", "cnp"])
def test_inductor_equals_the_learner(name: str) -> None:
    if all(shutil.which(compiler) is None for compiler in ("g++", "clang++", "c++")):
        pytest.skip("no C++ compiler")
    (row,) = (row for row in EVERY if row.name == name)
    learner = make(row).train()
    compiled = Compiled(learner, "inductor")
    for seed in range(3):
        assert_equal_steps(learner, compiled, others(tasks(row.target), seed))
        move_weights(learner, seed)
    assert compiled.traced == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_cuda_graph_equals_the_learner() -> None:
    learner = small_maml().to("cuda")
    compiled = Compiled(learner, "trace")
    for seed in range(3):
        assert_equal_steps(learner, compiled, others(sinusoid(), seed).to("cuda"))
        move_weights(learner, seed)


def test_the_page_runs_as_it_stands() -> None:
    page = (Path(__file__).parents[2] / "docs" / "compiled.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(compile(code, "compiled.md", "exec"), {})
