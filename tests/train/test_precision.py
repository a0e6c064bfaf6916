"""Shorter arithmetic: how far its steps are from those in float32, what stays in float32, what is put back."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy import api
from quickstudy.data import Sinusoid
from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, meta_test
from quickstudy.learners import KNN, MAML, AbstractLearner, ProtoNet
from quickstudy.learners.baseline import Baseline
from quickstudy.learners.learner import MetaLoss
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.nets import MLP
from quickstudy.recipes import load_recipe, recipe_hash
from quickstudy.train import History, Pretraining, fit
from quickstudy.train.compiled import Compiled
from quickstudy.train.precision import (
    InPrecision,
    LossScale,
    Precision,
    in_full,
    in_precision,
    mixed,
    remark,
    tensor_cores,
)
from tests.cli import conftest as cli
from tests.table import ROWS, Row, make, tasks
from tests.train.inturn import side_by_side, values
from tests.train.small import Small, same, weights
from tests.train.test_phases import CLASSES, TASKS

TRAINED = [row for row in ROWS if make(row).traits.trainable and "episodes" in make(row).traits.phases]
DIGITS = 2.0**-8
"""What rounding to bfloat16 changes a number by, at most, as a share of it."""
PLAIN_AND_BF16: tuple[Precision, ...] = ("float32", "bf16")
MATMUL: Any = torch.backends.cuda.matmul
CUDNN: Any = torch.backends.cudnn
command = cli.quickstudy
"""The fixture of the command line's own tests."""


class Single(Small):
    """Its tasks in float32."""

    @override
    def episodes(self, indices: Any) -> Episode:
        def single(part: Examples) -> Examples:
            assert isinstance(part.x, Tensor) and part.y is not None
            return replace(part, x=part.x.float(), y=part.y.float() if part.y.is_floating_point() else part.y)

        episode = super().episodes(indices)
        return replace(episode, support=single(episode.support), query=single(episode.query))


def a_maml(seed: int = 0) -> AbstractLearner:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return MAML(MLP(1), 1, "real", inner_steps=3, inner_lr=0.01)


def run(precision: Precision | None, **options: Any) -> tuple[dict[str, Tensor], list[float]]:
    """Weights and losses of a short training on sinusoids."""
    learner, history = options.pop("learner", None) or a_maml(), History()
    given: dict[str, Any] = {} if precision is None else {"precision": precision}
    source = Sinusoid().tasks("train", shot=10, seed=0)
    common: dict[str, Any] = {"steps": 10, "tasks_per_step": 4, "callbacks": [history]}
    fit(learner, source, **(common | given | options))
    return weights(learner), [float(record["loss"]) for record in history.steps]


# --- bf16: every learner ------------------------------------------------------------------------


def gradient(row: Row, precision: Precision, moved: int | None = None) -> tuple[Tensor, float]:
    """The first step's gradient and loss; with ``moved`` for weights that each lack the digits of bfloat16."""
    learner, history = make(row, torch.float32), History()
    if moved is not None:
        generator = torch.Generator().manual_seed(moved)
        with torch.no_grad():
            for p in learner.parameters():
                p.mul_(1 + DIGITS * (2 * torch.rand(p.shape, generator=generator) - 1))
    before = [p.detach().clone() for p in learner.parameters()]
    source = Single(row.target)
    fit(learner, source, steps=1, tasks_per_step=3, optimizer="sgd", lr=1.0, precision=precision, callbacks=[history])
    parts = [(a - b.detach()).flatten() for a, b in zip(before, learner.parameters(), strict=True)]
    assert {p.dtype for p in learner.parameters()} == {torch.float32}
    assert all(b.dtype not in (torch.bfloat16, torch.float16) and b.isfinite().all() for b in learner.buffers())
    return torch.cat(parts), float(history.steps[0]["loss"])


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.name)
def test_every_learner_takes_a_step_in_short_numbers(
    row: Row, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As far from float32 as weights without those digits take it: a few times the furthest of four such steps."""
    monkeypatch.setattr(LossScale, "__init__", partialmethod(LossScale.__init__, 256.0))  # no overflow in the only step
    exact, loss = gradient(row, "float32")
    found, said = gradient(row, precision)
    others = [gradient(row, "float32", moved) for moved in range(4)]
    assert not torch.equal(found, exact)
    away = max(float((other - exact).norm()) for other, _ in others)
    assert float((found - exact).norm()) <= 4 * away + 0.01 * float(exact.norm())
    if row.follows_query:  # Reptile's loss is a difference of two that are nearly the same
        assert abs(said - loss) <= 4 * max(abs(other - loss) for _, other in others) + 0.01 * abs(loss)


@pytest.mark.parametrize("kind", [Baseline, MetaBaseline])
def test_plain_labelled_batches_in_bf16(kind: Any) -> None:
    found = []
    for precision in PLAIN_AND_BF16:
        torch.manual_seed(0)
        learner, history = kind(MLP(4, (6, 5), norm="batch"), classes=CLASSES), History()
        first: dict[str, Any] = {"pretrain": Pretraining(TASKS.batches(16), 3)} if kind is MetaBaseline else {}
        source = TASKS if first else TASKS.batches(16)
        fit(learner, source, steps=3, precision=precision, callbacks=[history], **first)
        found.append([float(record["loss"]) for record in history.steps])
        assert {value.dtype for value in weights(learner).values() if value.is_floating_point()} == {torch.float32}
    assert found[0] != found[1]
    # The tasks' pictures tell classes by their last digits, which bfloat16 does not have.
    assert found[1][:3] == pytest.approx(found[0][:3], rel=0.02)


def test_training_in_bf16_goes_where_float32_goes() -> None:
    plain, bf16 = run("float32"), run("bf16")
    assert plain[1] != bf16[1]
    assert bf16[1] == pytest.approx(plain[1], rel=0.03)
    for name, value in plain[0].items():
        assert bf16[0][name].dtype == torch.float32
        assert (bf16[0][name] - value).norm() <= 0.02 * value.norm() + 0.01


def test_a_gradient_is_not_lost_to_a_cache() -> None:
    """Autocast keeps the weights that it has cast; those cast without a graph would have none for who comes after."""

    class LooksFirst(nn.Module):
        out_features = 40

        def __init__(self) -> None:
            super().__init__()
            self.net = MLP(1)

        def forward(self, x: Tensor) -> Tensor:
            with torch.no_grad():
                self.net(x)
            return self.net(x)  # type: ignore[no-any-return]

    learner = ProtoNet(LooksFirst())
    episode = tasks(dtype=torch.float32)
    one = replace(episode, support=only_first(episode.support), query=only_first(episode.query))
    with mixed("bf16", torch.device("cpu")):
        assert not torch.is_autocast_cache_enabled()  # newer versions of torch know to cast anew
        out = learner.meta_loss(one)
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is not None for p in learner.parameters())


def only_first(part: Examples) -> Examples:
    """A single number an example."""
    assert isinstance(part.x, Tensor)
    return replace(part, x=part.x[..., :1])


def test_what_a_step_hands_on_is_float32() -> None:
    half, whole = torch.ones(2, dtype=torch.bfloat16), torch.ones(2, dtype=torch.float64)
    out = in_full(MetaLoss(half, {"accuracy": half, "other": whole}, {"mean": half, "count": torch.ones(2).long()}))
    assert (out.loss.dtype, out.logs["accuracy"].dtype, out.carried["mean"].dtype) == (torch.float32,) * 3
    assert (out.logs["other"].dtype, out.carried["count"].dtype) == (torch.float64, torch.int64)


# --- float32: nothing changes -------------------------------------------------------------------


def test_float32_is_what_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    told, asked = run(None), run("float32")
    assert told[1] == asked[1] and same(told[0], asked[0])
    # Neither autocast nor a setting of torch is touched.
    monkeypatch.setattr(torch, "autocast", None)
    assert same(run("float32")[0], told[0])


def test_validations_are_float32() -> None:
    seen = []

    def validate(learner: AbstractLearner) -> Any:
        seen.append(torch.is_autocast_enabled("cpu"))
        return meta_test_as_validation(learner)

    run("bf16", validate=validate, validate_every=5)
    assert seen == [False, False]


def meta_test_as_validation(learner: AbstractLearner) -> Any:
    from quickstudy.train import Validation

    found = meta_test(learner, Sinusoid().tasks("validation", shot=5, seed=0), episodes=4)
    return Validation(found.metric, found.mean, found.ci95)


# --- together with compiling, and with ranks ----------------------------------------------------


def test_a_trace_in_bf16_has_its_casts() -> None:
    """As far from the learner's own step as the order of roundings takes it."""
    learner = a_maml()
    episode = Sinusoid().tasks("train", shot=10, seed=0).episodes(range(4))
    with mixed("bf16", torch.device("cpu")):
        eager = learner.meta_loss(episode)
    out, backward = Compiled(learner, "trace", precision="bf16")(episode)
    torch.testing.assert_close(out.loss, eager.loss.detach(), rtol=1e-3, atol=1e-4)
    assert not torch.equal(out.loss, learner.meta_loss(episode).loss)
    eager.loss.sum().backward()  # type: ignore[no-untyped-call]
    wanted = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    learner.zero_grad()
    backward()
    found = [p.grad for p in learner.parameters() if p.grad is not None]
    assert distance(found, wanted) <= 0.01
    assert {grad.dtype for grad in found} == {torch.float32}


def distance(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """Of two gradients, as a share of the second."""
    a, b = (torch.cat([part.flatten() for part in parts]) for parts in (found, wanted))
    return float((a - b).norm() / b.norm())


def test_training_by_traces_in_bf16() -> None:
    found, plain = (run(precision, compile="trace")[1] for precision in ("bf16", "float32"))
    assert found == pytest.approx(run("bf16")[1], rel=0.01)
    assert found != pytest.approx(plain, rel=1e-4)


def test_ranks_in_bf16() -> None:
    whole = run("bf16", optimizer="sgd")
    divided = values(side_by_side(lambda ranks: run("bf16", optimizer="sgd", ranks=ranks), 2))
    for state, _ in divided:
        assert all((state[name] - value).norm() <= 1e-3 * value.norm() for name, value in whole[0].items())
    assert same(divided[0][0], divided[1][0])


# --- tf32: settings of torch, put back ----------------------------------------------------------

GPU = torch.device("cuda")


def settings() -> list[Any]:
    """All that torch has to say of TF32."""
    found: list[Any] = [MATMUL.allow_tf32, CUDNN.allow_tf32, torch.get_float32_matmul_precision()]
    places = [MATMUL, *(getattr(CUDNN, name, None) for name in ("conv", "rnn"))]
    return found + [getattr(place, "fp32_precision", None) for place in places]


def test_tf32_is_set_inside_and_put_back() -> None:
    before = settings()
    with tensor_cores("tf32", GPU):
        assert MATMUL.allow_tf32 and CUDNN.allow_tf32
    assert settings() == before
    with pytest.raises(LookupError, match="lost"), tensor_cores("tf32", GPU):
        raise LookupError("lost")
    assert settings() == before and not MATMUL.allow_tf32


def test_tf32_where_convolutions_were_forbidden_it() -> None:
    CUDNN.allow_tf32 = False
    try:
        before = settings()
        with tensor_cores("tf32", GPU):
            assert CUDNN.allow_tf32
        assert settings() == before
    finally:
        CUDNN.allow_tf32 = True


@pytest.mark.skipif(not hasattr(MATMUL, "fp32_precision"), reason="this torch has the older settings alone")
def test_tf32_where_the_newer_settings_are_in_use() -> None:
    """Torch then refuses to read the older ones."""
    before = MATMUL.fp32_precision
    MATMUL.fp32_precision = "tf32"
    try:
        with tensor_cores("tf32", GPU):
            assert MATMUL.fp32_precision == "tf32"
        assert MATMUL.fp32_precision == "tf32"
    finally:
        MATMUL.fp32_precision = before


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_others_leave_the_settings_alone(precision: Precision) -> None:
    before = settings()
    with tensor_cores(precision, GPU), tensor_cores("tf32", torch.device("cpu")):
        assert settings() == before


def test_the_settings_are_those_of_a_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that fails puts them back, too; what is validated does not see them."""
    from quickstudy.train import stepping

    # The learner stays on the CPU, where they change nothing.
    monkeypatch.setattr(stepping, "tensor_cores", lambda precision, device: tensor_cores(precision, GPU))
    before, seen = settings(), list[tuple[str, bool]]()

    class Fails(nn.Module):
        out_features = 1

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            seen.append(("step" if self.training else "validation", MATMUL.allow_tf32))
            if len(seen) > 40:
                raise LookupError("no further")
            return x * self.weight

    with pytest.raises(LookupError, match="no further"):
        learner = MAML(Fails(), 1, "real", head="none", inner_steps=1)
        run("tf32", learner=learner, validate=meta_test_as_validation, validate_every=1)
    assert set(seen) == {("step", True), ("validation", False)}
    assert settings() == before


def test_tf32_on_a_cpu_is_float32_and_is_said_so() -> None:
    assert same(run("tf32")[0], run("float32")[0])
    said = remark("tf32", torch.device("cpu"))
    assert said is not None and "changes nothing on a cpu" in said
    assert remark("bf16", torch.device("cpu")) is remark("float32", torch.device("cpu")) is None


@pytest.mark.parametrize(
    ("precision", "capability", "said"),
    [
        ("tf32", (7, 0), r"tf32 changes nothing on this GPU \(Old\)"),
        ("bf16", (7, 5), r"this GPU \(Old\) has no units for bf16"),
        ("tf32", (8, 0), None),
        ("bf16", (9, 0), None),
    ],
)
def test_what_is_said_of_a_gpu(
    precision: Precision, capability: tuple[int, int], said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Old")
    found = remark(precision, GPU)
    assert (found is None) == (said is None)
    if said is not None:
        with pytest.raises(InputError, match=said):
            raise InputError(found)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_other_weights_than_float32_are_refused(precision: Precision) -> None:
    with pytest.raises(InputError, match=rf"Cannot compute MAML in {precision}: its weights are torch\.float64"):
        run(precision, learner=a_maml().double())
    assert run("float32", learner=a_maml().double())[1]


def test_a_precision_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"no precision called 'fp8'\. Use one of float32, tf32, bf16"):
        run("fp8")  # type: ignore[arg-type]


def test_a_device_without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.amp, "is_autocast_available", lambda kind: False)
    with pytest.raises(InputError, match="Cannot compute in bf16 on the device 'cpu': torch has no autocast for it"):
        run("bf16")


# --- in tests -----------------------------------------------------------------------------------


def test_a_learner_in_another_precision() -> None:
    learner, source = a_maml(), Sinusoid().tasks("test", shot=5, seed=0)
    plain, bf16 = (meta_test(in_precision(learner, kind), source, episodes=20) for kind in PLAIN_AND_BF16)
    assert in_precision(learner, "float32") is learner
    assert plain.per_episode != bf16.per_episode
    assert np.allclose(plain.per_episode, bf16.per_episode, rtol=0.05, atol=0.01)
    assert (plain.source_hash, plain.metric, plain.episodes) == (bf16.source_hash, bf16.metric, bf16.episodes)
    state = InPrecision(learner, "bf16").adapt(source.episodes(range(2)).support)
    assert InPrecision(learner, "bf16").predict(state, source.episodes(range(2)).query).dtype == torch.float32
    assert not torch.is_autocast_enabled("cpu")


def test_baselines_without_weights() -> None:
    episode = tasks(dtype=torch.float32)
    for precision in ("float32", "tf32", "bf16"):
        tested = in_precision(KNN(), precision)
        out = tested.predict(tested.adapt(episode.support), episode.query.unlabelled())
        assert out.isfinite().all() and out.dtype == torch.float32


# --- recipes, runs, the command line ------------------------------------------------------------

SHORT = {"train.steps": 4, "train.validate-every": 2, "train.validate-episodes": 4}


def a_run(folder: Path, **overrides: Any) -> api.Run:
    named = {key.replace("__", ".").replace("_", "-"): value for key, value in overrides.items()}
    return api.train("sinusoid-maml", overrides=SHORT | named, runs=folder, device="cpu")


def test_a_recipe_says_its_precision_and_others_keep_their_hash() -> None:
    plain = load_recipe("sinusoid-maml")
    assert (plain.train.precision, plain.evaluate.precision) == ("float32", "float32")
    settings = plain.settings(exclude={})
    assert settings["train"]["precision"] == "float32" and "precision" not in settings["evaluate"]
    keys = ("train.precision", "evaluate.precision")
    hashes = {recipe_hash(load_recipe("sinusoid-maml", {key: name})) for key in keys for name in ("tf32", "bf16")}
    assert len(hashes | {recipe_hash(plain)}) == 5
    assert recipe_hash(load_recipe("sinusoid-maml", {"evaluate.precision": "float32"})) == recipe_hash(plain)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("train.precision", "fp8", r"train\.precision: .*'float32', 'float64', 'tf32', 'bf16' or 'fp16'"),
        ("evaluate.precision", "float64", r"evaluate\.precision: .*'float32', 'tf32', 'bf16' or 'fp16'"),
    ],
)
def test_words_that_a_recipe_does_not_know(key: str, value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_recipe("sinusoid-maml", {key: value})


def test_weights_in_float64_are_not_tested_in_less() -> None:
    with pytest.raises(InputError, match="cannot test weights in float64 in bf16"):
        load_recipe("sinusoid-maml", {"train.precision": "float64", "evaluate.precision": "bf16"})


def test_a_run_in_bf16_is_tested_in_float32_unless_asked(tmp_path: Path) -> None:
    run = a_run(tmp_path, train__precision="bf16")
    assert 'precision = "bf16"' in (run.path / "recipe.toml").read_text()
    assert next(run.learner.parameters()).dtype == torch.float32
    assert not same(weights(run.learner), weights(a_run(tmp_path).learner))
    plain, again, bf16 = (
        api.evaluate(run, episodes=10, precision=precision, device="cpu", report=False)
        for precision in (None, "float32", "bf16")
    )
    assert plain.per_episode == again.per_episode and plain.id == again.id
    by_hand = meta_test(api.load(run.path), Sinusoid().tasks("test", shot=5, query=100, seed=0), episodes=10)
    assert plain.per_episode == by_hand.per_episode
    assert bf16.per_episode != plain.per_episode and bf16.id != plain.id
    assert np.allclose(bf16.per_episode, plain.per_episode, rtol=0.1)
    assert len(list((run.path / "evaluations").glob("*.json"))) == 2
    with pytest.raises(InputError, match=r"evaluate\.precision"):
        api.evaluate(run, precision="fp8")  # type: ignore[arg-type]


def test_a_recipe_asks_for_its_test(tmp_path: Path) -> None:
    run = a_run(tmp_path, evaluate__precision="bf16")
    asked = api.evaluate(run, episodes=10, device="cpu", report=False)
    plain = api.evaluate(run, episodes=10, precision="float32", device="cpu", report=False)
    assert asked.per_episode != plain.per_episode


def test_a_run_does_not_go_on_in_another_precision(tmp_path: Path) -> None:
    run = a_run(tmp_path, train__precision="bf16")
    with pytest.raises(InputError, match=r'train\.precision was "bf16" so far and is now "float32"'):
        api.train(run.path, overrides={"train.precision": "float32", "train.steps": 6}, resume=True)


def test_tf32_on_a_cpu_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture, command: cli.Command) -> None:
    with caplog.at_level(logging.WARNING):
        run = a_run(tmp_path, train__precision="tf32")
        api.evaluate(run, episodes=4, precision="tf32", device="cpu", report=False)
    assert [record.getMessage() for record in caplog.records] == [remark("tf32", torch.device("cpu"))] * 2
    done = command("evaluate", run.path, "--precision", "tf32", "--episodes", 4, "--device", "cpu", "--ranks", 1)
    assert done.status == 0 and done.err.count("tf32 changes nothing on a cpu") == 1


def test_the_command_line(tmp_path: Path, command: cli.Command) -> None:
    options = [part for key, value in SHORT.items() for part in (f"--{key}", value)]
    done = command("train", "sinusoid-maml", *options, "--train.precision", "bf16", "--runs", tmp_path, "--ranks", 1)
    assert done.status == 0 and "changes nothing" not in done.err
    run = Path(done.out.strip())
    found = []
    for more in (["--ranks", 1], ["--precision", "bf16", "--ranks", 1], ["--precision", "bf16", "--ranks", 2]):
        out = command("evaluate", run, "--episodes", 32, "--json", "--device", "cpu", *more)
        assert out.status == 0, out.err
        found.append(Result.from_json(out.out).per_episode)
    assert found[0] != found[1] == found[2]
    wrong = command("evaluate", run, "--precision", "fp8")
    assert wrong.status == 2 and "float32" in wrong.err
