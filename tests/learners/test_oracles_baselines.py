"""Oracles of the learners that are trained on plain labelled batches: NumPy, scikit-learn, torch.optim, identities."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from quickstudy.episode import Classes, Examples
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners import KNN, AbstractLearner, FineTune, Logistic, ProtoNet, Reptile, Scratch
from quickstudy.learners.baseline import Baseline
from quickstudy.learners.baselinepp import BaselinePlusPlus
from quickstudy.learners.boosting import Boosting
from quickstudy.learners.metabaseline import MetaBaseline
from quickstudy.learners.parts.minibatches import minibatches
from quickstudy.learners.rfs import RFS
from quickstudy.learners.ridge import Ridge
from quickstudy.learners.simpleshot import SimpleShot
from quickstudy.nets import MLP
from tests.rows.baselines import ROWS
from tests.smalltasks import Row, assert_close, make, mlp, numbers, outputs, tasks

ROW = {row.name: row for row in ROWS}
Floats = NDArray[np.float64]


def features(net: nn.Module, examples: Examples) -> Floats:
    """``[T, N, D]``."""
    assert isinstance(examples.x, Tensor)
    with torch.no_grad():
        return net(examples.x.flatten(0, 1)).unflatten(0, examples.x.shape[:2]).numpy()  # type: ignore[no-any-return]


def labels(examples: Examples) -> NDArray[np.int64]:
    assert examples.y is not None
    return examples.y.numpy()


def unit(rows: Floats) -> Floats:
    long: Floats = np.linalg.norm(rows, axis=-1, keepdims=True)
    return rows / long


def batch(n: int = 20, classes: int = 9) -> Examples:
    y = (torch.arange(n) * 4 % classes)[None]
    return Examples(numbers("batch", 1, n, 4), y, Classes(torch.tensor([classes])))


# --- batch losses ------------------------------------------------------------------------------------


def classifier_of(learner: AbstractLearner) -> nn.Linear:
    layer = next(part.layer for part in learner.modules() if hasattr(part, "batch_loss") and hasattr(part, "layer"))
    assert isinstance(layer, nn.Linear)
    return layer


def net_of(learner: AbstractLearner) -> nn.Module:
    return next(part for part in learner.modules() if isinstance(part, MLP))


PLAIN = [row for row in ROWS if not row.name.endswith("tasknorm")]


@pytest.mark.parametrize("row", PLAIN, ids=lambda row: row.name)
def test_batch_losses_against_numpy(row: Row) -> None:
    """Cross-entropy over all training classes of a linear layer, or of ten times the cosine."""
    learner, rows = make(row), batch()
    with torch.no_grad():
        out = learner.batch_loss(rows)
    f, layer = features(net_of(learner), rows)[0], classifier_of(learner)
    w = layer.weight.detach().numpy()
    logits = 10 * unit(f) @ unit(w).T if layer.bias is None else f @ w.T + layer.bias.detach().numpy()
    of_truth = logits[np.arange(20), labels(rows)[0]]
    assert float(out.loss) == pytest.approx(np.mean(np.log(np.exp(logits).sum(1)) - of_truth), rel=1e-10)
    assert float(out.logs["accuracy"]) == pytest.approx(np.mean(logits.argmax(1) == labels(rows)[0]))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_batch_losses_have_exact_gradients_and_write_nothing(row: Row) -> None:
    """Central differences in float64 along one direction through all weights."""
    learner, rows = make(row).train(), batch()
    before = {name: value.clone() for name, value in learner.state_dict().items()}
    learner.batch_loss(rows).loss.sum().backward()  # type: ignore[no-untyped-call]
    assert all(torch.equal(before[name], value) for name, value in learner.state_dict().items())
    trained = [p for p in learner.parameters() if p.grad is not None]
    along = [torch.sin(torch.arange(p.numel(), dtype=p.dtype) + 1).reshape(p.shape) for p in trained]

    def at(step: float) -> float:
        with torch.no_grad():
            for p, d in zip(trained, along, strict=True):
                p.add_(d, alpha=step)
            value = float(learner.batch_loss(rows).loss)
            for p, d in zip(trained, along, strict=True):
                p.sub_(d, alpha=step)
        return value

    h = 1e-4
    measured = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
    claimed = sum(float((p.grad * d).sum()) for p, d in zip(trained, along, strict=True) if p.grad is not None)
    assert claimed == pytest.approx(measured, rel=1e-6)


@pytest.mark.parametrize("name", ["baseline-batchnorm", "meta-baseline-batchnorm", "rfs-distil"])
def test_running_statistics_are_absorbed_as_torch_does(name: str) -> None:
    learner, rows = make(ROW[name]).train(), batch()
    learner.absorb(learner.batch_loss(rows).carried)
    assert isinstance(rows.x, Tensor)
    hidden = net_of(learner).linears[0](rows.x[0]).detach()  # type: ignore[index, operator]
    norm = net_of(learner).norms[0]  # type: ignore[index]
    assert_close(norm.running_mean, 0.1 * hidden.mean(0))  # type: ignore[union-attr]
    assert_close(norm.running_var, 0.9 + 0.1 * hidden.var(0))  # type: ignore[union-attr]


# --- learners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["baseline", "baseline++"])
def test_a_new_layer_is_trained_as_by_torch(name: str) -> None:
    """torch.optim.SGD with the authors' momentum and dampening of 0.9, on the same minibatches of each task alone."""
    learner, episode = make(ROW[name]), tasks()
    assert isinstance(learner, Baseline | BaselinePlusPlus)
    keys = Keys(Key.of(5), np.arange(3))
    with torch.no_grad():
        said = learner.predict(learner.adapt(episode.support, key=keys), episode.query, key=keys)  # type: ignore[arg-type]
    untrained = BaselinePlusPlus(mlp(), steps=0).double()
    untrained.load_state_dict(learner.state_dict(), strict=False)
    start = untrained.adapt(episode.support, key=keys).weight
    net = net_of(learner)
    known = replace(episode.support, x=torch.from_numpy(features(net, episode.support)))
    parts = minibatches(known, 4, 6, keys.fold("minibatches"))
    for t in range(3):
        if name == "baseline":
            layer = nn.Linear(5, 3).double()
            nn.init.zeros_(layer.weight), nn.init.zeros_(layer.bias)
        else:
            layer = nn.Linear(5, 3, bias=False).double()
            layer.weight.data.copy_(start[t])
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.01, momentum=0.9, dampening=0.9, weight_decay=1e-3)

        def logits(f: Tensor, layer: nn.Linear = layer) -> Tensor:
            if name == "baseline":
                return layer(f)  # type: ignore[no-any-return]
            cosine: Tensor = f @ layer.weight.T / f.norm(dim=1, keepdim=True) / layer.weight.norm(dim=1)
            return 2 * cosine

        for part in parts:
            assert isinstance(part.x, Tensor) and part.y is not None
            optimizer.zero_grad()
            nn.functional.cross_entropy(logits(part.x[t]), part.y[t]).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        expected = logits(torch.from_numpy(features(net, episode.query)[t]))
        assert_close(said[t], expected.detach(), 1e-9)


def test_a_new_layer_ends_at_the_penalised_optimum() -> None:
    """Whole-support descent to the end: SciPy's minimum of the mean cross-entropy + decay/2 (|W|² + |b|²)."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    learner, episode = Baseline(mlp(), batch=None, steps=500, lr=2.0, weight_decay=0.05).double(), tasks()
    state = learner.adapt(episode.support)
    known, y = features(net_of(learner), episode.support), labels(episode.support)
    for t in range(3):

        def objective(theta: Floats, f: Floats = known[t], y: NDArray[np.int64] = y[t]) -> float:
            logits = f @ theta[:15].reshape(3, 5).T + theta[15:]
            return float(
                (logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]).mean() + 0.05 / 2 * (theta**2).sum()
            )

        best = minimize(objective, np.zeros(18), method="BFGS", options={"gtol": 1e-9}).x
        found = np.concatenate([state.weight[t].numpy().reshape(-1), state.bias[t].numpy()])
        assert np.abs(found - best).max() < 1e-5 and np.abs(best).max() > 0.1


def test_baseline_plus_plus_logits_against_numpy() -> None:
    learner, episode = make(ROW["baseline++"]), tasks()
    with torch.no_grad():
        state = learner.adapt(episode.support)
        said = learner.predict(state, episode.query)
    f, w = unit(features(net_of(learner), episode.query)), unit(state.weight.numpy())
    assert_close(said, torch.from_numpy(2 * np.einsum("tnd,twd->tnw", f, w)))


def test_directions_start_as_in_torch() -> None:
    """Uniform within one over the root of the features: the numbers of a task and class are its own."""
    learner = BaselinePlusPlus(nn.Identity(), out_features=4, steps=0)
    start = learner.adapt(tasks(way=5, n_task=40).support).weight
    assert start.abs().max() <= 0.5 and start.abs().max() > 0.45 and abs(float(start.mean())) < 0.02
    assert float(start.std()) == pytest.approx(0.5 / 3**0.5, rel=0.05)
    assert len({tuple(row) for row in start.flatten(0, 1).tolist()}) == 200
    assert torch.equal(start[:, :3], learner.adapt(tasks(way=3, n_task=40).support).weight)


def test_simpleshot_is_a_prototypical_network_without_transform() -> None:
    """UN: the same ranking and, as squared distances, the same logits; with one shot the nearest neighbour."""
    learner, episode = make(ROW["simpleshot-un"]), tasks(query=20)
    net = net_of(learner)
    assert_close(outputs(learner, episode), outputs(ProtoNet(net), episode))
    assert torch.equal(
        outputs(learner, episode).argsort(2), outputs(ProtoNet(net, distance="euclidean"), episode).argsort(2)
    )
    one = tasks(shot=1, query=20)
    assert torch.equal(outputs(learner, one).argmax(2), outputs(KNN(net), one).argmax(2))


@pytest.mark.parametrize("name", ["simpleshot", "simpleshot-l2n"])
def test_simpleshot_against_numpy(name: str) -> None:
    """CL2N centres by the mean training feature, which here is that of the two batches that were absorbed."""
    learner, episode = make(ROW[name]), tasks()
    assert isinstance(learner, SimpleShot)
    learner.base.batches.zero_()  # as before training, whatever the mean is
    first, second = batch(20), replace(batch(20), x=3 * numbers("more", 1, 20, 4) + 1)
    for rows in (first, second):
        learner.absorb({n: v for n, v in learner.batch_loss(rows).carried.items() if "norms" not in n})
    net = net_of(learner)
    centre = np.mean([features(net, rows)[0].mean(0) for rows in (first, second)], 0)
    support, query = features(net, episode.support), features(net, episode.query)
    if name == "simpleshot":
        support, query = support - centre, query - centre
        assert np.abs(centre).max() > 0.05
    support, query = unit(support), unit(query)
    y = labels(episode.support)
    for t in range(3):
        means = np.stack([support[t][y[t] == k].mean(0) for k in range(3)])
        expected = -((query[t][:, None] - means) ** 2).sum(2)
        assert_close(outputs(learner, episode)[t], torch.from_numpy(expected))


def test_old_batches_fade_from_the_centre() -> None:
    """The mean of all at first; from the hundredth batch on a hundredth of each new one."""
    learner = SimpleShot(nn.Identity(), out_features=4, classes=9)
    means = numbers("means", 300, 4).float()
    expected = torch.zeros(4)
    for n, mean in enumerate(means):
        rows = replace(batch(), x=mean.expand(1, 20, 4))
        learner.absorb(learner.batch_loss(rows).carried)
        expected = means[: n + 1].mean(0) if n < 100 else 0.99 * expected + 0.01 * mean
        assert_close(learner.base.mean, expected, 1e-5)


@pytest.mark.parametrize("way", [2, 3])
def test_rfs_is_a_pipeline_of_scikit_learn(way: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import Normalizer

    learner, episode = make(ROW["rfs"]), tasks(way=way, query=10)
    net, said = net_of(learner), outputs(learner, episode)
    for t in range(3):
        model = make_pipeline(Normalizer("l2"), LogisticRegression(C=2.0 if way == 2 else 1.0, max_iter=1000))
        model.fit(features(net, episode.support)[t], labels(episode.support)[t])
        expected = model.predict_proba(features(net, episode.query)[t])
        torch.testing.assert_close(said[t].softmax(1), torch.from_numpy(expected), rtol=1e-3, atol=1e-4)
        assert (said[t].argmax(1).numpy() == expected.argmax(1)).all()


@pytest.mark.parametrize("way", [2, 3])
def test_logistic_regression_minimises_what_it_says(way: int) -> None:
    """SciPy on c times the summed cross-entropy plus half the squared weights, of all classes alike."""
    from scipy.optimize import minimize
    from scipy.special import logsumexp

    episode = tasks(way=way)
    assert isinstance(episode.support.x, Tensor)
    found = Logistic(c=0.3).adapt(episode.support)
    for t in range(3):
        x, y = episode.support.x[t].numpy(), labels(episode.support)[t]

        def objective(theta: Floats, x: Floats = x, y: NDArray[np.int64] = y) -> float:
            w, b = theta[: 4 * way].reshape(way, 4), theta[4 * way :]
            logits = x @ w.T + b
            return float(0.3 * (logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]).sum() + (w**2).sum() / 2)

        best = minimize(objective, np.zeros(5 * way), tol=1e-10).x[: 4 * way].reshape(way, 4)
        assert np.abs(found.weight[t].numpy() - best).max() < 1e-3
        ours = np.concatenate([found.weight[t].numpy().reshape(-1), found.bias[t].numpy()])
        assert objective(ours) == pytest.approx(
            objective(np.concatenate([best.reshape(-1), ours[4 * way :]])), abs=1e-5
        )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("kind", [FineTune, Scratch])
def test_the_whole_network_is_trained_as_by_torch(kind: Any, optimizer: str) -> None:
    """A copy of the network and head for each task, and torch.optim on the same minibatches."""
    options = {"lr": 0.03, "batch": 4, "optimizer": optimizer}
    learner, untrained = (kind(mlp(), 3, steps=steps, **options).double() for steps in (6, 0))
    untrained.load_state_dict(learner.state_dict())
    episode, keys = tasks(), Keys(Key.of(5), np.arange(3))
    start = untrained.adapt(episode.support, key=keys).params
    said = learner.predict(learner.adapt(episode.support, key=keys), episode.query)
    assert isinstance(episode.query.x, Tensor)
    for t in range(3):
        copied = nn.ModuleDict({"net": mlp(), "head": nn.Linear(5, 3)}).double()
        copied.load_state_dict({name: value[t].detach() for name, value in start.items()})
        if kind is FineTune:
            assert all(torch.equal(p, learner.model.get_parameter(name)) for name, p in copied.named_parameters())
        by_torch = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}[optimizer](copied.parameters(), lr=0.03)
        for part in minibatches(episode.support, 4, 6, keys.fold("minibatches")):
            assert isinstance(part.x, Tensor) and part.y is not None
            by_torch.zero_grad()
            logits = copied["head"](copied["net"](part.x[t]))
            nn.functional.cross_entropy(logits, part.y[t]).backward()  # type: ignore[no-untyped-call]
            by_torch.step()
        expected = copied["head"](copied["net"](episode.query.x[t]))
        assert_close(said[t].detach(), expected.detach(), 1e-9)
        before = untrained.predict(untrained.adapt(episode.support, key=keys), episode.query)[t]
        assert (before - expected).abs().max() > 0.01


class Watched(nn.Module):
    """A linear network that remembers what shapes it was given."""

    out_features = 5

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 5)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(tuple(x.shape))
        out: Tensor = self.layer(x)
        return out


@pytest.mark.parametrize("kind", [FineTune, MetaBaseline])
def test_batches_run_by_the_strategy_that_was_asked_for(kind: Any) -> None:
    """vmap keeps padding, where "auto" would leave it out."""
    net = Watched()
    learner = kind(net, classes=9, strategy="vmap", **({"outputs": 3} if kind is FineTune else {})).double()
    learner.batch_loss(replace(batch(), mask=torch.arange(20)[None] < 12))
    assert net.seen == [(20, 4)]


@pytest.mark.parametrize("kind", [FineTune, Scratch])
def test_a_class_without_an_example_is_refused(kind: Any) -> None:
    support = tasks().support
    assert support.y is not None
    with pytest.raises(InputError, match=r"Class 2 of task 0 has no labelled example in the support"):
        kind(mlp(), 3, steps=1).double().adapt(replace(support, y=support.y.clamp(max=1)))


def test_distillation_against_numpy() -> None:
    """Half cross-entropy, half 16 times the divergence of the softened answers, by the sums themselves."""
    learner, rows = make(ROW["rfs-distil"]), batch()
    assert isinstance(learner, RFS) and learner.teacher is not None
    with torch.no_grad():
        alone = float(learner.batch_loss(rows).loss)
        learner.begin_phase(0)
        assert float(learner.batch_loss(rows).loss) == alone, "the first phase has no teacher"
        learner.begin_phase(1)
        out = learner.batch_loss(rows)

    def softened(part: object) -> Floats:
        classifier = part.classifier.layer  # type: ignore[attr-defined]
        f = features(part.embed.net, rows)[0]  # type: ignore[attr-defined]
        logits: Floats = f @ classifier.weight.detach().numpy().T + classifier.bias.detach().numpy()
        return logits

    def softmax(logits: Floats) -> Floats:
        odds: Floats = np.exp(logits)
        shares: Floats = odds / odds.sum(1, keepdims=True)
        return shares

    student, teacher = softened(learner.base), softened(learner.teacher)
    assert np.abs(student - teacher).max() > 0.01
    hard = -np.log(softmax(student)[np.arange(20), labels(rows)[0]]).mean()
    p, q = softmax(teacher / 4), softmax(student / 4)
    soft = 16 * (p * np.log(p / q)).sum(1).mean()
    assert float(out.loss) == pytest.approx(0.5 * hard + 0.5 * soft, rel=1e-10)


def test_trained_a_second_time_it_distils_in_the_second_phase_only() -> None:
    learner, rows = make(ROW["rfs-distil"]), batch()
    for _ in range(2):
        learner.begin_phase(0)
        assert "distillation" not in learner.batch_loss(rows).logs
        learner.begin_phase(1)
        assert "distillation" in learner.batch_loss(rows).logs


@pytest.mark.parametrize("classes", [None, 9])
def test_a_network_trained_elsewhere_is_centred_by_the_user(classes: int | None) -> None:
    """The mean is that of all rows given, whatever sets they came in; without it there is no answer."""
    learner, episode = SimpleShot(mlp("batch"), classes=classes).double(), tasks()
    with pytest.raises(InputError, match=r"mean feature .* nobody measured.* learner\.base\.centre_on\(examples\)"):
        learner.adapt(episode.support)
    with pytest.raises(InputError, match=r"Cannot centre on features of training mode\. Call eval\(\)"):
        learner.base.centre_on(batch())
    learner.eval()
    with pytest.raises(InputError, match=r"Cannot centre on no example"):
        learner.base.centre_on()
    first, second = batch(20), replace(batch(12), x=3 * numbers("more", 1, 12, 4) + 1)
    short = replace(second, mask=torch.arange(12)[None] < 5)
    learner.base.centre_on(first, short)
    net = net_of(learner)
    centre = np.concatenate([features(net, first)[0], features(net, second)[0, :5]]).mean(0)
    found = learner.base.known(episode.support, None).x
    assert_close(found, torch.from_numpy(unit(features(net, episode.support) - centre)))  # type: ignore[arg-type]
    assert outputs(learner, episode).isfinite().all()


def test_a_student_begins_with_new_running_statistics() -> None:
    learner = make(ROW["rfs-distil"]).train()
    assert isinstance(learner, RFS) and learner.teacher is not None
    for _ in range(3):
        learner.absorb(learner.batch_loss(batch()).carried)
    known = {name: value.clone() for name, value in learner.base.named_buffers() if "running" in name}
    assert len(known) == 4 and all((value - float("var" in name)).abs().max() > 0.01 for name, value in known.items())
    learner.begin_phase(1)
    assert all((learner.base.get_buffer(name) == float("var" in name)).all() for name in known)
    assert all(torch.equal(learner.teacher.get_buffer(name), value) for name, value in known.items())


def test_a_teacher_stays_frozen_and_in_eval_mode() -> None:
    learner = make(ROW["rfs-distil"])
    assert isinstance(learner, RFS) and learner.teacher is not None
    learner.begin_phase(1)
    learner.train()
    assert learner.base.training and not learner.teacher.embed.net.training
    out = learner.batch_loss(batch())
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    assert all(p.grad is None for p in learner.teacher.parameters())
    assert all(p.grad is not None for p in learner.base.parameters())


def test_meta_baseline_is_a_prototypical_network_with_cosines() -> None:
    """τ is one over ProtoNet's temperature: same answers, same meta-loss, same gradients."""
    learner, episode = make(ROW["meta-baseline-batchnorm"]).train(), tasks()
    twin = make(ROW["meta-baseline-batchnorm"]).train()
    proto = ProtoNet(net_of(twin), distance="cosine", temperature=0.1)
    ours, theirs = learner.meta_loss(episode), proto.meta_loss(episode)
    assert_close(ours.loss, theirs.loss)
    for out in (ours, theirs):
        out.loss.sum().backward()  # type: ignore[no-untyped-call]
    for a, b in zip(net_of(learner).parameters(), net_of(twin).parameters(), strict=True):
        assert a.grad is not None and b.grad is not None
        assert_close(a.grad, b.grad)
    assert_close(outputs(learner.eval(), episode), outputs(proto.eval(), episode))
    assert isinstance(learner, MetaBaseline) and learner.scale.item() == 10 and learner.scale.grad is not None


def test_fine_tuning_on_batches_and_on_the_rows_of_tasks_is_one_loss() -> None:
    """The rows of a task as a plain batch, numbered over all classes by hand."""
    learner, episode = make(ROW["fine-tune-proto"]), tasks()
    assert isinstance(learner, FineTune) and episode.classes is not None
    losses = learner.meta_loss(episode).loss
    for t in range(3):
        both = episode.support.task(t).followed_by(episode.query.task(t))
        assert both.y is not None
        numbered = replace(both, y=episode.classes[t][both.y], target=Classes(torch.tensor([9])))
        assert_close(learner.batch_loss(numbered).loss[0], losses[t])


# --- odd inputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "build",
    [lambda: KNN(mlp()), lambda: Logistic(mlp()), lambda: Ridge(mlp()), lambda: Baseline(mlp()), lambda: RFS(mlp())],
    ids=["knn", "logistic", "ridge", "baseline", "rfs"],
)
def test_features_in_half_precision_are_computed_with_in_single(build: Any, dtype: torch.dtype) -> None:
    row, episode = Row("", build), tasks(dtype=torch.float32)
    said = outputs(make(row, dtype), episode)
    assert said.dtype == torch.float32
    torch.testing.assert_close(said, outputs(make(row, torch.float32), episode), rtol=0.05, atol=0.05)


def test_adam_in_half_precision_is_refused() -> None:
    learner, episode = FineTune(mlp(), 3, steps=1).half(), tasks(dtype=torch.float32)
    with pytest.raises(InputError, match=r"Adam cannot train weights of float16.* Call float\(\) or bfloat16\(\)"):
        learner.adapt(episode.support)
    for moments in ("reset", "carried"):
        with pytest.raises(InputError, match=r"Adam cannot train weights of float16"):
            Reptile(mlp(), 3, inner_steps=2, moments=moments).half().adapt(episode.support)
    sgd = FineTune(mlp(), 3, steps=1, optimizer="sgd").half()
    assert outputs(sgd, episode).isfinite().all()


@pytest.mark.parametrize("build", [KNN, Logistic, Ridge, lambda: Boosting(trees=3)])
def test_one_number_an_example_and_no_question(build: Any) -> None:
    """``[T, N]`` is ``[T, N, 1]``; a task that asks nothing gets no answer, and its neighbours theirs."""
    episode = tasks()
    s, q = episode.support, episode.query
    assert isinstance(s.x, Tensor) and isinstance(q.x, Tensor)
    single = replace(episode, support=replace(s, x=s.x[..., 0]), query=replace(q, x=q.x[..., 0]))
    column = replace(episode, support=replace(s, x=s.x[..., :1]), query=replace(q, x=q.x[..., :1]))
    said = outputs(build(), column)
    assert_close(outputs(build(), single), said)
    silent = replace(column.query, mask=torch.tensor([True, False, True])[:, None].expand(3, 12))
    assert_close(outputs(build(), replace(column, query=silent))[[0, 2]], said[[0, 2]])
    assert outputs(build(), replace(column, query=column.query.rows(slice(0, 0)))).shape == (3, 0, 3)


# --- what is refused ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Baseline(mlp(), lr=0.0), r"needs steps of at least 0 and a rate above 0, received steps=100 and lr=0"),
        (lambda: Baseline(mlp(), steps=-1), r"needs steps of at least 0 and a rate above 0, received steps=-1"),
        (lambda: Baseline(mlp(), batch=0), r"needs minibatches of at least 1 row, .*=0\. None takes the whole"),
        (lambda: Baseline(mlp(), momentum=2.0), r"momentum of at least 0 and below 1 .*, received momentum=2"),
        (lambda: Baseline(mlp(), weight_decay=-1.0), r"weight decay of at least 0, .* and weight_decay=-1"),
        (lambda: Baseline(mlp("task")), r"needs features that do not depend on the examples beside one"),
        (lambda: Baseline(nn.Identity()), r"Cannot build a classifier on Identity: its feature size is not known"),
        (lambda: BaselinePlusPlus(mlp(), test_scale=0.0), r"needs scales above 0, received scale=10\.0 and test_scale"),
        (
            lambda: SimpleShot(mlp(), transform="zn"),  # type: ignore[arg-type]
            r"SimpleShot has no transform 'zn'\. Use one of un, l2n, cl2n",
        ),
        (lambda: RFS(mlp(), c=0.0), r"needs c above 0, received 0"),
        (lambda: RFS(mlp(), share=1.5), r"needs a share from 0 to 1 and a temperature above 0, received share=1\.5"),
        (lambda: MetaBaseline(mlp(), scale=-1.0), r"Meta-Baseline needs a scale above 0, received -1"),
        (lambda: MetaBaseline(mlp(), scale=float("inf")), r"Meta-Baseline needs a scale above 0, received inf"),
        (lambda: BaselinePlusPlus(mlp(), test_scale=float("nan")), r"needs scales above 0, .* test_scale=nan"),
        (lambda: SimpleShot(mlp(), classes=0), r"Cannot build a classifier over classes=0\. Say how many"),
        (lambda: FineTune(mlp(), 3, steps=-1), r"needs steps and a rate of at least 0, .* received steps=-1, lr=0\.01"),
        (lambda: Scratch(mlp(), 3, lr=-0.1), r"needs steps and a rate of at least 0, .* lr=-0\.1 and batch=None"),
        (lambda: Scratch(mlp(), 3, batch=0), r"batches of at least 1 row .* and batch=0"),
        (
            lambda: FineTune(mlp(), 3, optimizer="adamw"),  # type: ignore[arg-type]
            r"Training on a support set has no optimizer 'adamw'\. Use one of adam, sgd",
        ),
        (
            lambda: Baseline(mlp(), out_features=7).double().adapt(tasks().support),
            r"was built for 7 features an example, but its network gives 5\. Pass out_features=5",
        ),
        (
            lambda: MetaBaseline(mlp(), classes=9, out_features=7).double().batch_loss(batch()),
            r"was built for 7 features an example, but its network gives 5\. Pass out_features=5",
        ),
        (
            lambda: SimpleShot(mlp(), classes=9).double().batch_loss(batch().unlabelled()),
            r"Cannot train on plain batches that carry no class labels",
        ),
        (
            lambda: SimpleShot(mlp(), classes=9).double().batch_loss(replace(batch(), y=torch.full((1, 20), 11))),
            r"A batch has the label 11, but the learner was built for classes=9, numbered from 0",
        ),
    ],
)
def test_options_out_of_range(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("name", ["baseline", "baseline++", "rfs"])
def test_a_layer_of_a_task_is_made_anew(name: str) -> None:
    learner, support = make(ROW[name]), tasks().support
    with pytest.raises(InputError, match=r"cannot go on from a state: fit it to all examples at once"):
        learner.adapt(support, state=learner.adapt(support))


@pytest.mark.parametrize("name", ["baseline", "baseline++", "simpleshot", "rfs", "meta-baseline"])
def test_a_state_answers_for_its_own_tasks(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)


def test_fine_tuning_asks_for_what_it_needs() -> None:
    with pytest.raises(InputError, match=r"Fine-tuning on real targets has no classes to train a classifier on"):
        FineTune(mlp(), 2, "real").double().batch_loss(batch())
    with pytest.raises(InputError, match=r"use a task source that numbers its classes"):
        make(ROW["fine-tune-proto"]).meta_loss(replace(tasks(), classes=None))


def test_minibatches_of_no_rows() -> None:
    with pytest.raises(InputError, match=r"A minibatch needs at least 1 row, received batch=0\. None takes the whole"):
        minibatches(tasks().support, 0, 3, Keys.default(3))


@pytest.mark.parametrize("build", [KNN, Logistic, Ridge, Boosting])
def test_a_query_of_other_columns(build: Any) -> None:
    learner, episode = build(), tasks()
    assert isinstance(episode.query.x, Tensor)
    narrow = replace(episode.query.unlabelled(), x=episode.query.x[..., :2])
    with pytest.raises(InputError, match=r"an example of the query is 2 numbers, one of the support \d+\. Give both"):
        learner.predict(learner.adapt(episode.support), narrow)
