"""Answers known from elsewhere: closed forms, identities, torch.optim, scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.inner import Adam, Sgd, descend, gradients, optimize
from quickstudy.keys import Key, Keys
from quickstudy.learners import KNN, MAML, Logistic, ProtoNet, Reptile, Scratch
from quickstudy.learners.parts.minibatches import minibatches
from quickstudy.nets import MLP
from quickstudy.nets.dense import task_linear
from tests.smalltasks import Slope, quadratic
from tests.table import ROWS, assert_close, make, mlp, numbers, outputs, tasks

ROW = {row.name: row for row in ROWS}


@pytest.mark.parametrize("steps", [0, 1, 2, 5])
@pytest.mark.parametrize("first_order", [False, True])
def test_maml_on_a_quadratic(steps: int, first_order: bool) -> None:
    """w_k - s = (1 - lr a)^k (w - s); the meta-gradient is b (w_k - q) (1 - lr a)^k, first order without the power."""
    lr, a, b, s, q, w = 0.3, 2.0, 3.0, 1.5, -0.7, 0.4
    learner = MAML(Slope(w), 1, "real", inner_steps=steps, inner_lr=lr, first_order=first_order, head="none")
    out = learner.meta_loss(quadratic(a, s, b, q))
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    shrink = (1 - lr * a) ** steps
    w_k = s + shrink * (w - s)
    assert float(out.loss.detach()) == pytest.approx(b / 2 * (w_k - q) ** 2)
    grad = learner.model.net.w.grad
    assert isinstance(grad, Tensor)
    assert float(grad) == pytest.approx(b * (w_k - q) * (1 if first_order else shrink))


def test_first_order_is_second_order_without_the_hessian() -> None:
    """One step: MAML's gradient = g - lr H g with g the query gradient at φ (FOMAML's), H the support Hessian."""
    episode = tasks(n_task=1)
    grads = {}
    for first_order in (False, True):
        learner = make(ROW["maml"])
        assert isinstance(learner, MAML)
        learner.loop.steps, learner.loop.first_order = 1, first_order
        learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
        grads[first_order] = torch.cat([p.grad.flatten() for p in learner.parameters()])  # type: ignore[union-attr]
    learner = make(ROW["maml"])
    assert isinstance(learner, MAML)
    names = [n for n, _ in learner.named_parameters()]
    shapes = [p.shape for p in learner.parameters()]

    def support_loss(flat: Tensor) -> Tensor:
        parts = torch.split(flat, [s.numel() for s in shapes])
        params = {n.removeprefix("model."): p.reshape(1, *s) for n, p, s in zip(names, parts, shapes, strict=True)}
        return learner.loss(learner.model.run(params, episode.support)[0], episode.support).sum()

    theta = torch.cat([p.detach().flatten() for p in learner.parameters()])
    hessian = torch.autograd.functional.hessian(support_loss, theta)  # type: ignore[no-untyped-call]
    assert_close(grads[False], grads[True] - learner.loop.lr * hessian @ grads[True])
    assert (grads[False] - grads[True]).abs().max() > 1e-3


def test_zero_steps_is_the_plain_network() -> None:
    learner = make(ROW["maml"])
    assert isinstance(learner, MAML)
    learner.loop.test_steps = 0
    episode = tasks()
    head = learner.model.head
    assert isinstance(head, nn.Linear) and isinstance(episode.query.x, Tensor)
    assert_close(
        outputs(learner, episode), head(learner.model.net(episode.query.x.flatten(0, 1))).unflatten(0, (3, 12)).detach()
    )


def test_protonet_is_a_linear_classifier() -> None:
    """Squared Euclidean distance: w = 2c, b = -|c|^2, up to -|f|^2, which is the same for all classes."""
    learner, episode = make(ROW["protonet"]), tasks()
    assert isinstance(learner, ProtoNet)
    with torch.no_grad():
        state = learner.adapt(episode.support)
        assert isinstance(episode.query.x, Tensor)
        features = learner.embed.net(episode.query.x.flatten(0, 1)).unflatten(0, (3, 12))
        linear = task_linear(features, 2 * state.means, -state.means.square().sum(2))
    assert_close(outputs(learner, episode), linear - features.square().sum(2, keepdim=True))


def test_protonet_distances_against_numpy() -> None:
    episode = tasks()
    for name, distance in (
        ("protonet-euclidean", lambda f, c: -np.linalg.norm(f - c)),
        ("protonet-cosine", lambda f, c: f @ c / np.linalg.norm(f) / np.linalg.norm(c) / 0.1),
    ):
        learner = make(ROW[name])
        assert isinstance(learner, ProtoNet) and isinstance(episode.query.x, Tensor)
        with torch.no_grad():
            f = learner.embed.net(episode.query.x.flatten(0, 1)).unflatten(0, (3, 12)).numpy()
            c = learner.adapt(episode.support).means.numpy()
        expected = [[[distance(q, centre) for centre in c[t]] for q in f[t]] for t in range(3)]
        assert_close(outputs(learner, episode), torch.tensor(expected))


def test_reptile_with_one_sgd_step_is_joint_training() -> None:
    """θ - φ = lr ∇L(θ): the surrogate's gradient is the inner rate times the gradient of the mean support loss."""
    episode, lr = tasks(), 0.05
    reptile = make(ROW["reptile-sgd"])
    assert isinstance(reptile, Reptile)
    reptile.inner_steps, reptile.optimizer = 1, Sgd(lr)
    reptile.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    surrogate = [p.grad for p in reptile.parameters()]
    joint = make(ROW["reptile-sgd"])
    assert isinstance(joint, Reptile)
    joint.loss(joint.model.run({}, episode.support)[0], episode.support).sum().backward()  # type: ignore[no-untyped-call]
    for a, p in zip(surrogate, joint.parameters(), strict=True):
        assert a is not None and p.grad is not None
        assert_close(a, lr * p.grad)


def test_reptile_moves_half_way() -> None:
    """Outer SGD with rate ε on the surrogate is θ + ε (φ - θ), averaged over tasks."""
    learner, episode = make(ROW["reptile"]), tasks()
    assert isinstance(learner, Reptile)
    learner.test_inner_steps, learner.test_inner_batch = learner.inner_steps, learner.inner_batch
    keys = Keys(Key.of(3), np.arange(3))
    end = learner.adapt(episode.support, key=keys).params
    expected = {
        n: (p + 0.5 * (end[n.removeprefix("model.")].mean(0) - p)).detach() for n, p in learner.named_parameters()
    }
    (learner.meta_loss(episode, key=keys).loss.sum() / 3).backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(learner.parameters(), lr=0.5).step()
    for n, p in learner.named_parameters():
        assert_close(p.detach(), expected[n])


def test_carried_moments_pass_from_task_to_task() -> None:
    """The authors' way: one Adam whose moments live on while the weights return to θ, written with torch.optim."""
    learner, episode = make(ROW["reptile-published"]).train(), tasks()
    assert isinstance(learner, Reptile)
    learner.inner_batch = None
    out = learner.meta_loss(episode)
    net = make(ROW["reptile-published"]).train()
    assert isinstance(net, Reptile)
    adam = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.0, 0.999))
    theta = {n: p.detach().clone() for n, p in net.named_parameters()}
    moved = {n: torch.zeros_like(p) for n, p in theta.items()}
    for t in range(3):
        one = episode.support.task(t)
        for _ in range(learner.inner_steps):
            adam.zero_grad()
            net.loss(net.model.run({}, one)[0], one).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
        with torch.no_grad():
            for n, p in net.named_parameters():
                moved[n] += theta[n] - p
                p.copy_(theta[n])
    out.loss.sum().backward()  # type: ignore[no-untyped-call]
    for n, p in learner.named_parameters():
        assert p.grad is not None
        assert_close(p.grad, moved[n], 1e-7)  # biases before the norm: Adam divides round-off by round-off
    assert float(out.carried["inner_step"][-1]) == 3 * learner.inner_steps


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (Sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Adam(0.1), lambda p: torch.optim.Adam(p, lr=0.1)),
        (Adam(0.1, beta1=0.0), lambda p: torch.optim.Adam(p, lr=0.1, betas=(0.0, 0.999))),
    ],
    ids=["sgd", "adam", "adam-beta1-0"],
)
def test_inner_optimisers_equal_torch(ours, theirs) -> None:  # type: ignore[no-untyped-def]
    start, target = numbers("start", 2, 5), numbers("target", 2, 5)
    params, _, history = optimize([lambda p: (p["w"] - target).pow(4).sum(1)] * 7, {"w": start}, ours)
    assert history.shape == (7, 2)
    for t in range(2):
        w = start[t].clone().requires_grad_()
        optimiser = theirs([w])
        for _ in range(7):
            optimiser.zero_grad()
            (w - target[t]).pow(4).sum().backward()  # type: ignore[no-untyped-call]
            optimiser.step()
        assert_close(params["w"][t], w.detach())


def test_descending_without_grad_mode_keeps_no_graph() -> None:
    w = torch.ones(1, 2, dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        assert not descend(lambda p: p["w"].square().sum(1), {"w": w}, steps=2, lr=0.1)["w"].requires_grad


def test_parameters_outside_the_loss_are_named() -> None:
    w, idle = (torch.ones(1, 2, requires_grad=True) for _ in range(2))
    with pytest.raises(ValueError, match=r"Cannot adapt 'idle': the support loss does not depend on it"):
        gradients(w.square().sum(1), {"w": w, "idle": idle})


def test_knn_against_scikit_learn() -> None:
    from sklearn.neighbors import KNeighborsClassifier

    episode = tasks(shot=5, query=20)
    for k in (1, 3):
        said = outputs(KNN(k=k), episode).argmax(2)
        for t in range(3):
            assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
            model = KNeighborsClassifier(k).fit(episode.support.x[t].numpy(), episode.support.y[t].numpy())  # type: ignore[index]
            distance, index = model.kneighbors(episode.query.x[t].numpy())
            del distance
            votes = np.stack([np.bincount(row, minlength=3) for row in episode.support.y[t].numpy()[index]])  # type: ignore[index]
            clear = np.sort(votes, 1)[:, -1] > np.sort(votes, 1)[:, -2]  # ties are broken differently
            assert (said[t].numpy() == votes.argmax(1))[clear].all() and clear.sum() > 20


def nearest_of(support: list[list[float]], y: list[int], asked: list[float], k: int) -> list[float]:
    """Logits of one query by k-NN on raw inputs."""
    target = Classes(torch.tensor([max(y) + 1]))
    known = Examples(torch.tensor([support]), torch.tensor([y]), target)
    learner = KNN(k=k)
    said: list[float] = learner.predict(learner.adapt(known), Examples(torch.tensor([[asked]]), None, target)).tolist()[
        0
    ][0]
    return said


def test_knn_gives_a_tie_of_votes_to_the_nearer_class() -> None:
    for near, far in ((0, 1), (1, 0)):
        said = nearest_of([[0.1], [1.0], [50.0], [60.0]], [near, far, far, near], [0.0], 2)
        assert said[near] > said[far] and round(said[near]) == round(said[far]) == 1
    # But no nearness outweighs a vote, nor a share of one: class 0 has 1.6 votes, class 1, at 0, has 1.4.
    said = nearest_of([[0.0], [1.0], [-1.0], [1.0], [-1.0], [1.0]], [1, 0, 0, 0, 0, 1], [0.0], 3)
    assert said[0] > said[1]


def test_knn_does_not_depend_on_the_order_at_equal_distances() -> None:
    """Two of class 1 and one of class 0 at the same distance share the one vote that is asked for."""
    rows, y = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [3.0, 3.0]], [0, 1, 1, 0]
    expected = nearest_of(rows, y, [0.0, 0.0], 1)
    assert expected[1] > expected[0] and int(expected[1] * 3) == 2
    for order in ([2, 1, 0, 3], [3, 0, 1, 2], [1, 2, 3, 0]):
        assert nearest_of([rows[i] for i in order], [y[i] for i in order], [0.0, 0.0], 1) == expected


def test_knn_far_from_the_origin() -> None:
    """The differences are a tenth at 2,000, in float32; squares of such numbers end at about one."""
    rows, y = [[2000.0, 0.0]] * 20 + [[2000.0, 0.1]] * 20, [0] * 20 + [1] * 20
    for k in (1, 7):
        said = nearest_of(rows, y, [2000.0, 0.08], k)
        assert said[1] > said[0]
        said = nearest_of(rows, y, [2000.0, 0.02], k)
        assert said[0] > said[1]


@pytest.mark.parametrize("way", [2, 3])
def test_logistic_against_scikit_learn(way: int) -> None:
    from sklearn.linear_model import LogisticRegression

    episode = tasks(way=way)
    logits = outputs(Logistic(c=0.5), episode)
    for t in range(3):
        assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
        model = LogisticRegression(C=1.0 if way == 2 else 0.5, max_iter=1000)  # two classes: see the docstring of c
        model.fit(episode.support.x[t].numpy(), episode.support.y[t].numpy())  # type: ignore[index]
        expected = torch.from_numpy(model.predict_proba(episode.query.x[t].numpy()))
        torch.testing.assert_close(logits[t].softmax(1).double(), expected, rtol=1e-3, atol=1e-4)


def test_scratch_starts_from_its_own_draw_for_each_task() -> None:
    learner = Scratch(mlp(), 3, steps=0).double()
    state = learner.adapt(tasks().support)
    first = state.params["net.linears.0.weight"]
    assert not torch.equal(first[0], first[1])
    # torch's own initialisation: uniform within 1/sqrt(inputs)
    assert first.abs().max() <= 0.5 and first.std() > 0.2
    assert torch.equal(first, learner.adapt(tasks().support).params["net.linears.0.weight"])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 12), st.integers(1, 6))
def test_minibatches_show_every_row_equally_often(sizes: list[int], size: int, steps: int) -> None:
    """Over any number of steps the counts of a task's real rows differ by at most one; padding never comes."""
    longest = max(sizes)
    mask = torch.arange(longest) < torch.tensor(sizes)[:, None]
    x = (
        torch.arange(longest, dtype=torch.float64)
        .expand(len(sizes), -1)[..., None]
        .masked_fill(~mask[..., None], float("nan"))
    )
    support = Examples(x, torch.zeros(len(sizes), longest, 1, dtype=torch.float64), Real(1), mask=mask)
    batches = minibatches(support, size, steps, Keys(Key.of(1), np.arange(len(sizes))))
    assert len(batches) == steps
    if size >= longest:
        assert all(batch is support for batch in batches)
        return
    for t, n in enumerate(sizes):
        if n <= size:  # the whole support every time, as if the task were alone
            assert all(
                batch.real[t].sum() == n and batch.x[t, batch.real[t], 0].tolist() == list(range(n))  # type: ignore[index]
                for batch in batches
            )
            continue
        rows = torch.cat([batch.x[t, :, 0] for batch in batches])  # type: ignore[index]
        counts = torch.bincount(rows.long(), minlength=n)
        assert len(counts) == n and counts.sum() == size * steps and counts.max() - counts.min() <= 1


def test_reptile_normalises_a_query_with_the_support_alone() -> None:
    """As published: each query is the last row of a batch of the support and itself, in batch-statistics mode."""
    learner, episode = make(ROW["reptile-published"]), tasks()
    assert isinstance(learner, Reptile)
    said = outputs(learner, episode)
    state = learner.adapt(episode.support)
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    for t in (0, 2):
        weights = {n: p[t] for n, p in state.params.items()}
        net = MLP(4, (6, 5), norm="transductive", activation="tanh").double()
        net.load_state_dict({n.removeprefix("net."): p for n, p in weights.items() if n.startswith("net.")})
        for q in (0, 5):
            batch = torch.cat([episode.support.x[t], episode.query.x[t, q : q + 1]])
            logits = net(batch)[-1] @ weights["head.weight"].T + weights["head.bias"]
            assert_close(said[t, q], logits.detach(), 1e-8)


def test_scratch_owes_nothing_to_the_network_that_it_was_given() -> None:
    net = MLP(4, (6, 5), norm="task", init="normal-0.01").double()
    with torch.no_grad():
        for p in net.parameters():
            p.fill_(7.0)
    first = Scratch(net, 3, steps=0).double().adapt(tasks().support).params
    assert (first["net.norms.0.weight"] == 1).all() and (first["net.norms.0.scale"] == 0).all()
    assert 0 < first["net.linears.0.weight"].abs().max() <= 0.02 and 0 < first["head.weight"].abs().max() <= 0.02

    class Keeps(nn.Module):
        out_features = 4

        def __init__(self) -> None:
            super().__init__()
            self.shift = nn.Parameter(torch.zeros(4, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x + self.shift

    with pytest.raises(InputError, match=r"Cannot start from scratch: the layer 'net' \(Keeps\) has"):
        Scratch(Keeps(), 3).double().adapt(tasks().support)


def test_distances_far_from_the_origin_do_not_cancel() -> None:
    class Far(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + 1000

    episode = tasks(dtype=torch.float32)
    near, far = (outputs(ProtoNet(net), episode) for net in (nn.Identity(), Far()))
    torch.testing.assert_close(near, far, rtol=1e-3, atol=1e-3)


def test_small_weights_reach_the_head() -> None:
    learner = MAML(MLP(4, init="normal-0.01"), 3)
    assert isinstance(learner.model.head, nn.Linear) and learner.model.head.weight.abs().max() <= 0.02


def test_real_targets_of_another_dimension_are_refused() -> None:
    with pytest.raises(InputError, match=r"built for 1 real values an example, the tasks have 2"):
        MAML(MLP(4), 1, "real").double().adapt(tasks("real").support)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_reptile_on_a_quadratic(steps: int) -> None:
    """k steps leave (1 - lr a)^k of the way to s; outer SGD moves θ by ε (1 - (1 - lr a)^k)(s - θ)."""
    a, s, w, lr, epsilon = 2.0, 1.5, 0.4, 0.3, 0.25
    options: dict[str, Any] = {"optimizer": "sgd", "inner_lr": lr, "inner_batch": None, "head": "none"}
    learner = Reptile(Slope(w), 1, "real", inner_steps=steps, **options)
    learner.meta_loss(quadratic(a, s, 1.0, 0.0)).loss.sum().backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(learner.parameters(), lr=epsilon).step()
    (theta,) = learner.parameters()
    assert float(theta.detach()) == pytest.approx(w + epsilon * (1 - (1 - lr * a) ** steps) * (s - w))


def test_reptile_s_minibatches_in_the_mean() -> None:
    """Two rows, one a step: either order comes as often, and the mean of both is where θ is expected to go."""
    n_task, a, w, lr, rows = 400, 2.0, 0.4, 0.2, (1.5, -0.7)
    x = torch.full((n_task, 2, 1), (a / 2) ** 0.5, dtype=torch.float64)
    support = Examples(x, x * torch.tensor(rows, dtype=torch.float64)[:, None], Real(1))
    learner = Reptile(
        Slope(w), 1, "real", optimizer="sgd", inner_lr=lr, inner_batch=1, inner_steps=2, test_inner_steps=2,
        test_inner_batch=1, head="none",
    )  # fmt: skip
    ends = learner.adapt(support).params["net.w"][:, 0]
    left = 1 - lr * a

    def after(first: float, second: float) -> float:
        once = first + left * (w - first)
        return second + left * (once - second)

    either = [after(*rows), after(*rows[::-1])]
    which = torch.stack([(ends - end).abs() < 1e-12 for end in either])
    assert (which.sum(0) == 1).all() and 160 < int(which[0].sum()) < 240
    learner.meta_loss(Episode(support, support)).loss.mean().backward()  # type: ignore[no-untyped-call]
    expected = w - sum(either) / 2
    assert float(learner.model.net.w.grad) == pytest.approx(expected, abs=4 * abs(either[0] - either[1]) / 40)  # type: ignore[arg-type]


def test_a_shared_row_is_pulled_by_the_mean_of_its_copies() -> None:
    """A row of its own for each class ends in W places; the one that they were copied from goes to their mean."""
    learner, episode = make(ROW["reptile-shared"]), tasks()
    assert isinstance(learner, Reptile)
    learner.test_inner_steps = learner.inner_steps
    end = learner.adapt(episode.support).params["head.weight"]  # [T, W, D]
    assert end.std(1).max() > 1e-3
    learner.meta_loss(episode).loss.sum().backward()  # type: ignore[no-untyped-call]
    row = learner.model.head.weight
    assert isinstance(row, Tensor) and row.grad is not None
    pulls = [row.detach()[0] - (end[t, 0] + end[t, 1] + end[t, 2]) / 3 for t in range(3)]
    assert_close(row.grad[0], (pulls[0] + pulls[1] + pulls[2]).detach())


def test_reptile_goes_on_with_the_moments_that_it_had() -> None:
    """Twice three steps of Adam are six, written with torch.optim."""
    episode = tasks(n_task=1)
    learner = seeded_reptile(inner_batch=None, test_inner_batch=None, test_inner_steps=3, beta1=0.9, inner_lr=0.05)
    state = learner.adapt(episode.support, state=learner.adapt(episode.support))
    adam = torch.optim.Adam(learner.parameters(), lr=0.05, betas=(0.9, 0.999))
    for _ in range(6):
        adam.zero_grad()
        learner.loss(learner.model.run({}, episode.support)[0], episode.support).sum().backward()  # type: ignore[no-untyped-call]
        adam.step()
    for name, p in learner.model.named_parameters():
        assert_close(state.params[name][0], p.detach(), 1e-9)


def seeded_reptile(**options: Any) -> Reptile:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Reptile(mlp(), 3, **options).double()


def test_reptile_leaves_the_caller_s_network_as_it_is() -> None:
    """What is outside of the part is not frozen behind one's back, to be missed by the next learner of that network."""
    net = mlp()
    with pytest.raises(
        InputError, match=r"part='head' trains that part alone, but 4 weights outside of it ask .*Freeze"
    ):
        Reptile(net, 3, part="head")
    assert all(p.requires_grad for p in net.parameters())
    learner = Reptile(net.requires_grad_(False), 3, part="head").double()
    assert learner.model.adapted == ("head.weight", "head.bias")
    assert set(learner.adapt(tasks().support).params) == {"head.weight", "head.bias"}
