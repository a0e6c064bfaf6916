"""Which strategy is taken, why, and that a run says and keeps it; strategies agree in float32 too."""

from __future__ import annotations

import inspect
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from quickstudy import api
from quickstudy.learners.registry import learners
from quickstudy.nets import MLP, Conv4, apply
from quickstudy.nets.strategy import STRATEGIES, Strategy, StrategyRecord, choose, recorded
from tests.nets.test_apply import NETS, SHAPES
from tests.table import numbers

apply_module = sys.modules["quickstudy.nets.apply"]  # `quickstudy.nets.apply` is the function of that name
# Learners that run no network, or one whose examples are all alone: there is nothing to choose.
WITHOUT_A_CHOICE = {"boosting", "knn", "logistic", "ridge", "rl2", "tabular-in-context"}
# Of the largest entry: some hundred units in the last place of float32, for sums of a few thousand products.
ROUND_OFF = 3e-5
AGREE: tuple[Strategy, ...] = ("loop", "vmap", "batched")


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("norm", ["none", "transductive", "task"])
@pytest.mark.parametrize("shared", [True, False])
def test_strategies_agree_in_float32(kind: str, norm: str, shared: bool) -> None:
    """Outputs, gradients and gradients of gradients are as far apart as float32's round-off, and not further."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net: nn.Module = NETS[kind](norm)  # type: ignore[no-untyped-call]
    x = numbers(kind, 3, 6, *SHAPES[kind]).float()
    found = {}
    for strategy in AGREE:
        own = {
            name: (p.detach() + 0.1 * numbers(name, 3, *p.shape).float()).requires_grad_()
            for name, p in net.named_parameters()
        }
        out = apply(net, x, params=None if shared else own, strategy=strategy).out
        sources = list(net.parameters()) if shared else list(own.values())
        first = torch.autograd.grad(out.square().sum(), sources, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), sources)  # type: ignore[arg-type]
        found[strategy] = [out.detach(), *(g.detach() for g in first), *second]
    for group in (slice(0, 1), slice(1, 1 + len(sources)), slice(1 + len(sources), None)):
        scale = max(float(part.abs().max()) for part in found["loop"][group])
        for strategy in ("vmap", "batched"):
            pairs = zip(found["loop"][group], found[strategy][group], strict=True)
            assert max(float((a - b).abs().max()) for a, b in pairs) <= ROUND_OFF * scale, strategy


def test_what_ran_is_taken_down_once_with_its_reason() -> None:
    net, x = MLP(6), torch.zeros(4, 3, 6)
    own = {name: p.detach().expand(4, *p.shape) for name, p in net.named_parameters()}
    apply(net, x)  # nobody records
    with recorded(StrategyRecord()) as record:
        for _ in range(3):
            apply(net, x)
            apply(net, x, params=own)
        apply(net, x, strategy="loop")
        with recorded(StrategyRecord()) as inner:
            apply(net, x, strategy="vmap")
    apply(net, x, strategy="vmap")
    assert [str(use) for use in record.uses] == [
        f"strategy: packed (MLP, shared weights, cpu: {choose(net, x, shared=True).why})",
        f"strategy: batched (MLP, weights of each task's own, cpu: {choose(net, x, shared=False).why})",
        "strategy: loop (MLP, shared weights, cpu: as asked for)",
    ]
    assert [use.choice.strategy for use in inner.uses] == ["vmap"]


def test_what_is_taken_down_is_what_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Strategy] = []

    def spy(name: Strategy, how: Any, *given: Any) -> Any:
        calls.append(name)
        return how(*given)

    for strategy in AGREE:
        how = getattr(apply_module, f"_{strategy}")
        monkeypatch.setattr(apply_module, f"_{strategy}", partial(spy, strategy, how))
    net, x = MLP(6), torch.zeros(4, 3, 6)
    own = {name: p.detach().expand(4, *p.shape) for name, p in net.named_parameters()}
    asked: Strategy
    for asked in ("auto", *AGREE):
        with recorded(StrategyRecord()) as record:
            apply(net, x, params=own, strategy=asked)
        assert calls.pop() == record.uses[-1].choice.strategy
        assert asked == "auto" or record.uses[-1].choice.strategy == asked


def test_every_rule_has_a_reason() -> None:
    class Unseen(nn.Module):
        couples_examples = True

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    x, gpu = torch.zeros(4, 3, 6), torch.zeros(4, 3, 6, device="meta")
    assert choose(nn.Linear(6, 2), x[:1], shared=False).why == "there is one task"
    assert choose(Conv4(), x, shared=False).strategy == "loop"
    assert "slower" in choose(Conv4(), x, shared=False).why
    assert "no form with a task axis" in choose(Unseen(), x, shared=True).why
    shared = Conv4(norm="transductive")
    assert "channels-last" in choose(shared, x, shared=True).why
    assert choose(shared, x, shared=True).strategy == "loop"
    assert choose(shared, gpu, shared=True).strategy == "loop"  # "meta" is no GPU
    assert choose(shared, x[:1], shared=True).why == "there is one task"
    assert "same kernels" in choose(MLP(6, norm="batch"), gpu, shared=True).why


def test_a_run_says_its_strategies_and_keeps_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = {"train.steps": 2, "train.validate-every": 2, "train.validate-episodes": 2}
    chosen = api.train("sinusoid-maml", overrides=short, runs=tmp_path, device="cpu", progress=True)
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("strategy: batched (MLP, weights of each task's own, cpu: ")
    kept = json.loads(chosen.folder.environment.read_bytes())
    assert kept["strategies"] == [said[0].removeprefix("strategy: ")]
    assert kept["torch"] == torch.__version__

    asked = api.train(
        "sinusoid-maml", overrides={**short, "learner.strategy": "loop"}, runs=tmp_path, device="cpu", progress=False
    )
    assert capsys.readouterr().err == ""
    kept = json.loads(asked.folder.environment.read_bytes())
    assert kept["strategies"] == ["loop (MLP, weights of each task's own, cpu: as asked for)"]
    for name, one in chosen.learner.state_dict().items():
        assert torch.allclose(one, asked.learner.state_dict()[name], atol=1e-5)


@pytest.mark.parametrize("name", learners.shipped())
def test_every_learner_with_a_network_can_be_told(name: str) -> None:
    parameters = inspect.signature(learners.get(name)).parameters
    assert ("strategy" in parameters) == (name not in WITHOUT_A_CHOICE)


def test_the_list_of_strategies() -> None:
    assert STRATEGIES == ("auto", "packed", "loop", "vmap", "batched")
