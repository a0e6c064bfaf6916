"""Transductive learners against plain loops from the papers' equations, and where their priors hold or fail."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import LinearConstraint, minimize
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as shannon
from torch import Tensor, nn

from quickstudy.episode import Classes, Episode, Examples, Real
from quickstudy.errors import InputError
from quickstudy.learners.alphatim import AlphaTIM
from quickstudy.learners.bdcspn import BDCSPN
from quickstudy.learners.finetune import FineTune
from quickstudy.learners.laplacianshot import LaplacianShot, nearest_others
from quickstudy.learners.learner import AbstractLearner, task_metric
from quickstudy.learners.parts.information import Information, entropy
from quickstudy.learners.parts.pretrained import Pretrained
from quickstudy.learners.protonet import ProtoNet
from quickstudy.learners.ptmap import PTMAP, sinkhorn
from quickstudy.learners.tim import TIM
from quickstudy.learners.transductivefinetune import TransductiveFineTune
from quickstudy.nets import MLP
from tests.rows.baselines import centred
from tests.smalltasks import FEATURES, WAY, Row, assert_close, make, mlp, numbers, outputs, tasks

Array = NDArray[np.float64]


def laplacianshot(net: nn.Module, **options: Any) -> LaplacianShot:
    """Told the mean that it takes away."""
    return centred(LaplacianShot(net, **options))


EVERY: list[Callable[[nn.Module], AbstractLearner]] = [
    BDCSPN,
    laplacianshot,
    TIM,
    AlphaTIM,
    PTMAP,
    TransductiveFineTune,
]


class Same(nn.Module):
    """Features are the inputs, times one weight of 1, which says the dtype."""

    out_features = FEATURES

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.one


def arrays(episode: Episode, task: int) -> tuple[Array, NDArray[np.int64], Array]:
    """Support, labels and queries of one task."""
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    assert episode.support.y is not None
    return episode.support.x[task].numpy(), episode.support.y[task].numpy(), episode.query.x[task].numpy()


def unit(x: Array) -> Array:
    scaled: Array = x / np.linalg.norm(x, axis=-1, keepdims=True)
    return scaled


def means(s: Array, y: NDArray[np.int64]) -> Array:
    return np.stack([s[y == k].mean(0) for k in range(WAY)])


def cosine(a: Array, b: Array) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def against(learner: AbstractLearner, oracle: Callable[[Array, Any, Array], Array], tolerance: float = 1e-10) -> None:
    """Softmax of the learner's logits equals the oracle's, task by task (an offset a row plays no part)."""
    episode = tasks()
    said = outputs(learner.double().eval(), episode).log_softmax(2)
    for t in range(episode.n_task):
        assert_close(said[t], torch.from_numpy(log_softmax(oracle(*arrays(episode, t)), axis=1)), tolerance)


# --- BD-CSPN --------------------------------------------------------------------------------------


def rectified_by_loops(s: Array, y: Any, q: Array, confident: int | None) -> Array:
    centres = means(s, y)
    alike = [[cosine(row, centres[k]) for k in range(WAY)] for row in q]
    guesses = [int(np.argmax(row)) for row in alike]
    found = []
    for k in range(WAY):
        mine = sorted((i for i in range(len(q)) if guesses[i] == k), key=lambda i: -alike[i][k])[:confident]
        members = [s[i] for i in range(len(s)) if y[i] == k] + [q[i] for i in mine]
        weights = [np.exp(10 * cosine(member, centres[k])) for member in members]
        found.append(sum(w * member for w, member in zip(weights, members, strict=True)) / sum(weights))
    return np.stack(found)


@pytest.mark.parametrize("confident", [1, 2, None])
@pytest.mark.parametrize("shift", [False, True])
def test_bd_cspn_by_loops(confident: int | None, shift: bool) -> None:
    def oracle(s: Array, y: Any, q: Array) -> Array:
        s, q = unit(s), unit(q)
        q = q + (s.mean(0) - q.mean(0)) if shift else q
        better = rectified_by_loops(s, y, q, confident)
        return np.array([[7 * cosine(row, centre) for centre in better] for row in q])

    against(BDCSPN(Same(), confident=confident, shift=shift, scale=7.0), oracle)


# --- LaplacianShot --------------------------------------------------------------------------------


@pytest.mark.parametrize("rectify", [False, True])
@pytest.mark.parametrize("count", [1, 3, 50])
def test_laplacianshot_by_loops(rectify: bool, count: int) -> None:
    smoothness, iterations = 0.8, 6

    def oracle(s: Array, y: Any, q: Array) -> Array:
        q = q + s.mean(0) - q.mean(0) if rectify else q
        centres = rectified_by_loops(s, y, q, None) if rectify else means(s, y)
        apart = ((q[:, None] - centres) ** 2).sum(2)
        ties = np.zeros((len(q), len(q)))
        for i in range(len(q)):
            for j in sorted((j for j in range(len(q)) if j != i), key=lambda j: ((q[i] - q[j]) ** 2).sum())[:count]:
                ties[i, j] = 1
        logits: Array = -apart
        for _ in range(iterations):
            shares = softmax(logits, axis=1)
            logits = np.array(
                [-apart[i] + smoothness * sum(ties[i, j] * shares[j] for j in range(len(q))) for i in range(len(q))]
            )
        return logits

    learner = LaplacianShot(
        Same(), smoothness=smoothness, neighbours=count, iterations=iterations, rectify=rectify, transform="none"
    )
    against(learner, oracle)


@pytest.mark.parametrize(
    "build", [lambda: LaplacianShot(Same(), transform="none"), lambda: BDCSPN(Same(), transform="none")]
)
def test_what_all_queries_share_does_not_count(build: Callable[[], AbstractLearner]) -> None:
    """They are compared where they were moved to: a change of domain common to all of them takes nothing away."""
    episode = tasks()
    assert isinstance(episode.query.x, Tensor)
    elsewhere = replace(episode, query=replace(episode.query, x=episode.query.x + numbers("elsewhere", 3, 1, FEATURES)))
    assert_close(outputs(build().double(), elsewhere), outputs(build().double(), episode))


def test_updates_lower_the_regularised_objective() -> None:
    """Σ y·log y + Σ y·a - λ/2 Σ W y_q·y_p never rises, where that is so: all queries tied to all, and a small λ."""
    episode = tasks(n_task=1)
    s, y, q = arrays(episode, 0)
    apart = ((q[:, None] - means(s, y)) ** 2).sum(2)
    values = []
    for iterations in range(12):
        learner = LaplacianShot(
            Same(), smoothness=0.1, neighbours=99, iterations=iterations, rectify=False, transform="none"
        )
        shares = outputs(learner.double(), episode)[0].softmax(1).numpy()
        ties = 1 - np.eye(len(q))
        values.append(
            (shares * np.log(shares)).sum() + (shares * apart).sum() - 0.05 * (ties * (shares @ shares.T)).sum()
        )
    assert (np.diff(values) < 1e-12).all() and values[0] - values[-1] > 1e-4


def test_laplacianshot_without_smoothness_is_the_nearest_prototype() -> None:
    learner = LaplacianShot(Same(), smoothness=0.0, rectify=False, transform="none").double()
    assert_close(outputs(learner, tasks()), outputs(ProtoNet(Same()).double(), tasks()))


def test_neighbours_at_the_same_distance_share_the_last_place() -> None:
    """A square and one point far away: whatever the order, a corner's second neighbour is half each of two."""
    corners = torch.tensor([[0.0, 0], [1, 0], [1, 1], [0, 1], [9, 9]], dtype=torch.float64)[None]
    real = torch.ones(1, 5, dtype=torch.bool)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for k in range(4):
        expected[k, (k + 1) % 4] = expected[k, (k + 3) % 4] = 0.5
    expected[4, 2] = 1
    assert_close(nearest_others(corners, real, 1)[0], expected)
    order = torch.tensor([3, 4, 0, 2, 1])
    assert_close(nearest_others(corners[:, order], real, 1)[0], expected[order][:, order])
    assert not nearest_others(corners, real, 0).any()


@pytest.mark.parametrize("far", [0.0, 2000.0])
def test_neighbours_far_from_the_origin(far: float) -> None:
    x = torch.cat([torch.zeros(30, 2), torch.tensor([[0.0, 0.1]]).expand(30, 2)])[None] + torch.tensor([far, 0.0])
    ties = nearest_others(x, torch.ones(1, 60, dtype=torch.bool), 20)[0]
    assert not ties[:30, 30:].any() and not ties[30:, :30].any() and torch.allclose(ties.sum(1), torch.tensor(20.0))


@pytest.mark.parametrize("build", [BDCSPN, laplacianshot, TIM, AlphaTIM, PTMAP])
def test_features_in_half_precision_are_computed_with_in_single(build: Callable[..., AbstractLearner]) -> None:
    row, episode = Row("", lambda: build(mlp())), tasks(dtype=torch.float32)
    said = outputs(make(row, torch.bfloat16), episode)
    assert said.dtype == torch.float32 and said.isfinite().all()
    assert outputs(make(row, torch.float16), episode).isfinite().all()
    with pytest.raises(InputError, match=r"Adam cannot train weights of float16"):
        outputs(make(Row("", lambda: TransductiveFineTune(mlp())), torch.float16), episode)


def test_a_lonely_query_has_no_neighbours() -> None:
    assert not nearest_others(torch.randn(2, 1, 3), torch.ones(2, 1, dtype=torch.bool), 3).any()


# --- TIM and α-TIM --------------------------------------------------------------------------------


def objective_by_loops(
    w: Array, s: Array, y: Any, q: Array, tau: float, weights: tuple[float, float], alpha: float
) -> float:
    def shares(rows: Array) -> Array:
        return softmax(np.array([[-tau / 2 * ((row - c) ** 2).sum() for c in w] for row in rows]), axis=1)

    def h(p: Array) -> float:
        return float(shannon(p)) if alpha == 1 else float((1 - (p**alpha).sum()) / (alpha - 1))

    p_s, p_q = shares(s), shares(q)
    ce = -np.mean([np.log(p_s[i, y[i]]) for i in range(len(s))])
    return float(weights[0] * ce - h(p_q.mean(0)) + weights[1] * np.mean([h(p) for p in p_q]))


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.0, 7.0])
def test_information_by_loops(alpha: float) -> None:
    episode = tasks()
    weights = numbers("class weights", 3, WAY, FEATURES)
    assert isinstance(episode.query.x, Tensor)
    info = Information(3.0, 0.3, 0.7, alpha)
    found = info.losses(weights, episode.support, episode.query.x, episode.query)
    for t in range(3):
        expected = objective_by_loops(weights[t].numpy(), *arrays(episode, t), 3.0, (0.3, 0.7), alpha)
        assert float(found[t]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("alpha", [1 - 1e-7, 1 + 1e-7])
def test_the_alpha_entropy_becomes_shannons(alpha: float) -> None:
    logs = numbers("shares", 50, 5).mul(3).log_softmax(1)
    assert_close(entropy(logs.exp(), logs, alpha), torch.from_numpy(shannon(logs.exp().numpy(), axis=1)), 1e-6)
    assert_close(entropy(logs.exp(), logs, 1.0), torch.from_numpy(shannon(logs.exp().numpy(), axis=1)), 1e-12)


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_the_alpha_entropy_of_shares_too_small_to_be_numbers(alpha: float) -> None:
    """p = exp(-10,000) is 0, and its power (1 - α) of infinity; the entropy and its derivative in log p are none."""
    for dtype in (torch.float32, torch.float64):
        logits = torch.tensor([[0.0, -1e4, -1e4], [0.0, -95.0, -1.0]], dtype=dtype, requires_grad=True)
        logs = logits.log_softmax(1)
        found = entropy(logs.exp(), logs, alpha)
        (grad,) = torch.autograd.grad(found.sum(), logits)
        p = softmax(logits.detach().double().numpy(), axis=1)
        expected = (1 - (p**alpha).sum(1)) / (alpha - 1)
        assert_close(found.detach().double(), torch.from_numpy(expected), 1e-5 if dtype == torch.float32 else 1e-12)
        ratio = np.where(p > 0, p**alpha, 0) * alpha / (1 - alpha)  # d entropy / d log p, then through the softmax
        slope = ratio - p * ratio.sum(1, keepdims=True)
        assert_close(grad.double(), torch.from_numpy(slope), 1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(("scale", "dtype"), [(3.0, torch.float32), (30.0, torch.float64)])
def test_alpha_tim_below_one_on_features_far_apart(scale: float, dtype: torch.dtype) -> None:
    episode = tasks(dtype=dtype)
    assert isinstance(episode.support.x, Tensor) and isinstance(episode.query.x, Tensor)
    episode = Episode(
        replace(episode.support, x=scale * episode.support.x), replace(episode.query, x=scale * episode.query.x)
    )
    for alpha, temperature in ((0.5, 15.0), (0.1, 100.0)):
        learner = AlphaTIM(Same(), alpha=alpha, steps=3, transform="none", temperature=temperature).to(dtype)
        assert torch.isfinite(outputs(learner, episode)).all()


def test_alpha_tim_with_alpha_one_is_tim() -> None:
    options: dict[str, Any] = {"steps": 20, "lr": 0.03, "support_weight": 0.2, "conditional_weight": 0.4}
    shannons, alphas = TIM(Same(), **options).double(), AlphaTIM(Same(), alpha=1.0, **options).double()
    assert_close(outputs(shannons, tasks()), outputs(alphas, tasks()))
    near = AlphaTIM(Same(), alpha=1 + 1e-6, **options).double()
    assert_close(outputs(shannons, tasks()), outputs(near, tasks()), 1e-3)
    assert (outputs(shannons, tasks()) - outputs(AlphaTIM(Same(), **options).double(), tasks())).abs().max() > 1e-2


@pytest.mark.parametrize("solver", ["gd", "adm"])
def test_tim_without_steps_is_a_prototype_classifier(solver: Any) -> None:
    """-τ/2 |f - c|^2, which is a prototypical network of temperature 2/τ."""
    learner = TIM(Same(), solver=solver, steps=0, transform="none").double()
    assert_close(outputs(learner, tasks()), outputs(ProtoNet(Same(), temperature=2 / 15).double(), tasks()))


def test_tim_descends_as_torchs_adam() -> None:
    """torch.optim.Adam on the objective written anew in torch, one task at a time."""
    episode = tasks()
    learner = TIM(Same(), steps=30, lr=0.02, transform="none", temperature=4.0).double()
    said = outputs(learner, episode)
    for t in range(3):
        s, y, q = (torch.from_numpy(part) for part in arrays(episode, t))
        w = torch.stack([s[y == k].mean(0) for k in range(WAY)]).requires_grad_()
        optimizer = torch.optim.Adam([w], lr=0.02)
        for _ in range(30):
            p_s, p_q = ((-2 * torch.cdist(part, w).square()).softmax(1) for part in (s, q))
            ce = -p_s[torch.arange(len(y)), y].log().mean()
            marginal = -(p_q.mean(0) * p_q.mean(0).log()).sum()
            loss = 0.1 * ce - marginal + 0.1 * -(p_q * p_q.log()).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        assert_close(said[t], -2 * torch.cdist(q, w).square().detach(), 1e-8)


def adm_by_loops(s: Array, y: Any, q: Array, tau: float, lam: float, alpha: float, steps: int) -> Array:
    """Proposition 1 of the paper, class by class and row by row."""
    w, n_s, n_q = means(s, y), len(s), len(q)

    def shares(rows: Array) -> Array:
        return softmax(np.array([[-tau / 2 * ((row - c) ** 2).sum() for c in w] for row in rows]), axis=1)

    for _ in range(steps):
        p_s, p_q = shares(s), shares(q)
        aux = p_q ** (1 + alpha) / np.sqrt((p_q ** (1 + alpha)).sum(0))
        aux = aux / aux.sum(1, keepdims=True)
        new = np.zeros_like(w)
        for k in range(WAY):
            above, below = np.zeros(FEATURES), 0.0
            for i in range(n_s):
                above += lam / (1 + alpha) * ((y[i] == k) * s[i] + p_s[i, k] * (w[k] - s[i]))
                below += lam / (1 + alpha) * (y[i] == k)
            for j in range(n_q):
                above += n_s / n_q * (aux[j, k] * q[j] + p_q[j, k] * (w[k] - q[j]))
                below += n_s / n_q * aux[j, k]
            new[k] = above / below
        w = new
    return np.array([[-tau / 2 * ((row - c) ** 2).sum() for c in w] for row in q])


def test_tim_adm_by_loops() -> None:
    learner = TIM(
        Same(), solver="adm", steps=7, temperature=3.0, support_weight=0.4, conditional_weight=0.3, transform="l2"
    )
    against(learner, lambda s, y, q: adm_by_loops(unit(s), y, unit(q), 3.0, 0.4, 0.3, 7))


def test_both_solvers_find_about_the_same() -> None:
    """Both come close to the minimum that scipy finds from the same start."""
    episode, settings = tasks(n_task=1), {"temperature": 3.0, "support_weight": 1.0, "conditional_weight": 0.3}
    s, y, q = arrays(episode, 0)
    start = means(s, y)

    def loss(w: Array) -> float:
        return objective_by_loops(w.reshape(start.shape), s, y, q, 3.0, (1.0, 0.3), 1.0)

    least = minimize(loss, start.ravel(), method="L-BFGS-B").fun
    assert isinstance(episode.query.x, Tensor)
    for solver, steps, lr in (("gd", 1000, 1e-2), ("adm", 300, 0.0)):
        learner = TIM(Same(), solver=solver, steps=steps, lr=lr, transform="none", **settings).double()  # type: ignore[arg-type]
        if solver == "gd":
            w = learner.information.descend(episode.support, episode.query.x, episode.query, steps=steps, lr=lr)
        else:
            w = learner._alternate(episode.support, episode.query.x, episode.query)
        gap = loss(start) - least
        assert loss(w[0].detach().numpy()) - least < (0.01 if solver == "gd" else 0.2) * gap


# --- PT-MAP ---------------------------------------------------------------------------------------


def test_sinkhorn_has_its_marginals() -> None:
    """Rows sum to 1 and columns to n / ways, for ragged tasks too; and it is the loop's matrix."""
    logits = 10 * numbers("costs", 3, 12, 5)
    real = torch.ones(3, 12, dtype=torch.bool)
    real[1, 7:] = False
    there = torch.arange(5) < torch.tensor([5, 3, 2])[:, None, None]
    matrix = sinkhorn(logits, real, there)[0].exp()
    for t, (n, way) in enumerate([(12, 5), (7, 3), (12, 2)]):
        assert_close(matrix[t, :n].sum(1), torch.ones(n, dtype=torch.float64), 1e-8)
        assert_close(matrix[t].sum(0)[:way], torch.full((way,), n / way, dtype=torch.float64), 1e-8)
        assert not matrix[t, n:].any() and not matrix[t, :, way:].any()
        p = np.exp(logits[t, :n, :way].numpy())
        for _ in range(3000):
            p = p / p.sum(1, keepdims=True)
            p = p * (n / way) / p.sum(0)
        assert_close(matrix[t, :n, :way], torch.from_numpy(p), 1e-7)


def test_sinkhorn_is_the_entropic_optimum() -> None:
    """Of all matrices with these sums it maximises Σ P·logits + entropy(P) (scipy's SLSQP)."""
    logits = 2 * numbers("small costs", 1, 4, 2)
    found = sinkhorn(logits, torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 1, 2, dtype=torch.bool))[0].exp()
    cost = logits[0].numpy()

    def loss(flat: Array) -> float:
        p = np.clip(flat.reshape(4, 2), 1e-12, None)
        return float(-(p * cost).sum() + (p * np.log(p)).sum())

    sums = LinearConstraint(
        np.vstack([np.kron(np.eye(4), [1, 1]), np.tile([1, 0], 4)]), [1, 1, 1, 1, 2], [1, 1, 1, 1, 2]
    )
    best = minimize(loss, np.full(8, 0.5), method="SLSQP", constraints=sums, bounds=[(1e-9, 1.0)] * 8, tol=1e-14)
    assert_close(found[0], torch.from_numpy(best.x.reshape(4, 2)), 1e-5)


def pt_map_by_loops(s: Array, y: Any, q: Array, epochs: int) -> Array:
    def prepared(x: Array) -> Array:
        x = unit((np.maximum(x, 0) + 1e-6) ** 0.5)
        return unit(x - x.mean(0))

    def plan(c: Array) -> Array:
        p: Array = np.exp(-2 * np.array([[((row - centre) ** 2).sum() for centre in c] for row in q]))
        for _ in range(4000):
            p = p / p.sum(1, keepdims=True)
            p = p * (len(q) / WAY) / p.sum(0)
        return p

    s, q = prepared(s), prepared(q)
    c = means(s, y)
    for _ in range(epochs):
        p = plan(c)
        for_class = [(s[y == k].sum(0) + p[:, k] @ q) / ((y == k).sum() + p[:, k].sum()) for k in range(WAY)]
        c = c + 0.2 * (np.stack(for_class) - c)
    logits: Array = np.log(plan(c))
    return logits


def test_pt_map_by_loops() -> None:
    """A sharpness of 2, because with the paper's 10 neither converges in the tiny shares of far classes."""
    against(PTMAP(Same(), iterations=6, sharpness=2.0), lambda s, y, q: pt_map_by_loops(s, y, q, 6), 1e-7)


# --- transductive fine-tuning -----------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_without_entropy_it_is_fine_tuning(optimizer: Any) -> None:
    mine = Row("", lambda: TransductiveFineTune(mlp(), steps=5, lr=0.05, entropy_weight=0.0, optimizer=optimizer))
    theirs = Row("", lambda: FineTune(mlp(), WAY, steps=5, lr=0.05, head="proto", optimizer=optimizer))
    assert_close(outputs(make(mine), tasks()), outputs(make(theirs), tasks()))


def test_with_entropy_it_descends_as_torchs_adam() -> None:
    """A network and head of one task, trained by torch.optim on the paper's objective."""
    episode = tasks(n_task=1)
    learner = make(Row("", lambda: TransductiveFineTune(mlp(), steps=6, lr=0.02, entropy_weight=0.7)))
    assert isinstance(learner, TransductiveFineTune) and isinstance(learner.model.net, MLP)
    said = outputs(learner, episode)
    s, y, q = (torch.from_numpy(part) for part in arrays(episode, 0))
    net = learner.model.net
    with torch.no_grad():
        c = torch.stack([net(s)[y == k].mean(0) for k in range(WAY)])
    head = nn.Linear(5, WAY).double()
    head.load_state_dict({"weight": 2 * c, "bias": -c.square().sum(1)})
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=0.02)
    for _ in range(6):
        p = head(net(q)).softmax(1)
        loss = nn.functional.cross_entropy(head(net(s)), y) - 0.7 * (p * p.log()).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert_close(said[0], head(net(q)).detach(), 1e-8)


# --- priors ---------------------------------------------------------------------------------------


def clusters(counts: list[int], spread: float, n_task: int = 40) -> Episode:
    """One shot of each of ``len(counts)`` Gaussian classes in the positive orthant, and so many queries of each."""
    way = len(counts)
    generator = np.random.default_rng(0)
    centres = 1 + 3 * np.eye(way, FEATURES)[None] + 0 * generator.random((n_task, way, FEATURES))
    sets = []
    for each in ([1] * way, counts):
        y = np.repeat(np.arange(way), each)
        x = centres[:, y] + spread * generator.normal(size=(n_task, len(y), FEATURES))
        labels = torch.from_numpy(y).expand(n_task, -1).contiguous()
        sets.append(Examples(torch.from_numpy(x), labels, Classes(torch.full((n_task,), way))))
    return Episode(sets[0], sets[1])


def accuracy(learner: AbstractLearner, episode: Episode) -> float:
    return float(task_metric(outputs(learner.double().eval(), episode), episode.query)[1].mean())


@pytest.mark.parametrize("build", EVERY)
def test_clusters_apart_are_told_exactly(build: Callable[..., AbstractLearner]) -> None:
    assert accuracy(build(Same(), classes=9), clusters([8, 8, 8, 8], 0.05, 5)) == 1


@pytest.mark.parametrize(
    "build",
    [lambda: TIM(Same(), lr=1e-2, steps=200), lambda: TIM(Same(), solver="adm"), lambda: PTMAP(Same())],
    ids=["tim", "tim-adm", "pt-map"],
)
def test_a_balanced_prior_costs_accuracy_where_it_is_wrong(build: Callable[[], AbstractLearner]) -> None:
    """Better than prototypes on even queries, worse than on even ones and than α-TIM on uneven ones."""
    even, uneven = clusters([9, 9, 9, 9], 0.8), clusters([27, 3, 3, 3], 0.8)
    learner, plain = build(), ProtoNet(Same())
    assert learner.traits.balanced_prior and not AlphaTIM(Same()).traits.balanced_prior
    assert accuracy(learner, even) > accuracy(plain, even) + 0.03
    assert accuracy(learner, uneven) < accuracy(learner, even) - 0.1
    assert accuracy(AlphaTIM(Same(), lr=1e-2, steps=200), uneven) > accuracy(learner, uneven) + 0.03


# --- far from the origin, and alone ---------------------------------------------------------------


@pytest.mark.parametrize(
    "build",
    [
        lambda: LaplacianShot(Same(), transform="none", rectify=False, smoothness=0.0),
        lambda: TIM(Same(), steps=0, transform="none"),
        lambda: TIM(Same(), solver="adm", steps=3, transform="none", temperature=2.0),
        lambda: AlphaTIM(Same(), steps=0, transform="none"),
    ],
    ids=["laplacianshot", "tim", "tim-adm", "alpha-tim"],
)
def test_distances_far_from_the_origin_do_not_cancel(build: Callable[[], AbstractLearner]) -> None:
    """Differences of a tenth at 2,000, in float32, where squares end at about one; a class that is absent, too."""
    near = torch.tensor([[[0.0, 0.0, 0, 0], [0.0, 0.1, 0, 0]]])
    asked = torch.tensor([[[0.0, 0.02, 0, 0], [0.0, 0.08, 0, 0], [0.0, 0.0, 0, 0]]])
    shift, y = torch.tensor([2000.0, 0, 0, 0]), torch.tensor([[0, 1]])
    for way in ([2], [2, 4]):
        classes = Classes(torch.tensor(way))
        support, query = near.expand(len(way), -1, -1), asked.expand(len(way), -1, -1)
        labels = y.expand(len(way), -1)
        if len(way) == 2:  # a neighbour of four classes widens the logits
            support = torch.cat([support, support + 3.0], 1)
            labels = torch.tensor([[0, 1, -1, -1], [0, 1, 2, 3]])
        episode = Episode(Examples(support + shift, labels, classes), Examples(query + shift, None, classes))
        assert outputs(build().eval(), episode)[0].argmax(1).tolist() == [0, 1, 0]


@pytest.mark.parametrize("build", [BDCSPN, PTMAP, laplacianshot])
def test_a_lone_query_is_still_told_apart(build: Callable[..., AbstractLearner]) -> None:
    """Minus its own mean it would be nothing, and shared out evenly it would be of all classes alike."""
    learner, episode = build(Same(), classes=9).double().eval(), clusters([8, 8, 8, 8], 0.05, 5)
    assert episode.query.y is not None
    for row in range(0, 32, 5):
        one = replace(episode, query=episode.query.rows(slice(row, row + 1)))
        said = outputs(learner, one)
        assert torch.equal(said.argmax(2), episode.query.y[:, row : row + 1])
        assert (said.amax(2) - said.amin(2) > 1e-3).all()
    # In a ragged batch the task of one query is what it is alone, and its neighbours are what they are.
    mask = torch.ones(5, 32, dtype=torch.bool)
    mask[2, 1:] = False
    together = outputs(learner, replace(episode, query=replace(episode.query, mask=mask)))
    alone = replace(episode, query=episode.query.rows(slice(0, 1)))
    assert_close(together[2, :1], outputs(learner, alone)[2])
    assert_close(together[[0, 1, 3, 4]], outputs(learner, episode)[[0, 1, 3, 4]])


# --- what they share ------------------------------------------------------------------------------


def test_the_mean_of_training_features_is_gathered() -> None:
    """All batches weigh the same at first; features are centred by it and brought to unit length."""
    base = Pretrained(Same(), 9, transform="cl2n").double()
    batches = [numbers(f"batch {n}", 1, 6, FEATURES) for n in range(4)]
    way = Classes(torch.tensor([9]))
    for x in batches:
        base.absorb(base.batch_loss(Examples(x, torch.arange(6)[None], way)).carried)
    mean = torch.stack(batches).mean((0, 1, 2))
    assert_close(base.mean, mean)
    episode = tasks()
    assert isinstance(episode.support.x, Tensor)
    assert_close(base.known(episode.support, None).x, nn.functional.normalize(episode.support.x - mean, dim=2))  # type: ignore[arg-type]
    base.batches.fill_(10_000)
    base.absorb(base.batch_loss(Examples(batches[0] + 5, torch.arange(6)[None], way)).carried)
    assert_close(base.mean, 0.99 * mean + 0.01 * (batches[0].mean((0, 1)) + 5))


@pytest.mark.parametrize("build", EVERY)
def test_batches_train_them(build: Callable[..., AbstractLearner]) -> None:
    """Plain labelled batches: the loss of a linear (or cosine) classifier over all classes falls."""
    learner = build(mlp(), classes=3).double().train()
    episode = tasks(n_task=1)
    optimizer = torch.optim.Adam(learner.parameters(), lr=0.02)
    losses = []
    for _ in range(40):
        out = learner.batch_loss(episode.support)
        optimizer.zero_grad()
        out.loss.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        learner.absorb(out.carried)
        losses.append(float(out.loss.detach().sum()))
    assert learner.traits.phases == ("batches",)
    assert losses[-1] < 0.7 * losses[0]
    with pytest.raises(InputError, match=r"the number of training classes is not known"):
        build(mlp()).double().batch_loss(episode.support)


@pytest.mark.parametrize("build", [*EVERY, lambda net, classes: TIM(net, classes=classes, solver="adm")])
def test_unlabelled_support_rows_play_no_part(build: Callable[..., AbstractLearner]) -> None:
    """A support row of label -1 is as if it were not there."""
    learner, episode = build(Same(), classes=9).double(), tasks()
    assert isinstance(episode.support.x, Tensor) and episode.support.y is not None
    stray = 5 * numbers("stray rows", 3, 2, FEATURES)
    more = replace(
        episode.support,
        x=torch.cat([episode.support.x, stray], 1),
        y=torch.cat([episode.support.y, torch.full((3, 2), -1)], 1),
    )
    assert_close(outputs(learner, replace(episode, support=more)), outputs(learner, episode))


@pytest.mark.parametrize("build", EVERY)
def test_other_targets_are_refused(build: Callable[..., AbstractLearner]) -> None:
    with pytest.raises(InputError, match=r"This learner needs classes, the tasks have Real"):
        build(mlp()).double().adapt(tasks("real").support)
    assert isinstance(tasks("real").support.target, Real)


@pytest.mark.parametrize("build", EVERY)
def test_networks_that_look_at_other_rows_are_refused(build: Callable[..., AbstractLearner]) -> None:
    with pytest.raises(InputError, match=r"the network's norms look at other rows"):
        build(mlp("task"))
    with pytest.raises(InputError, match=r"Cannot build a classifier on Sequential: its feature size is not known"):
        build(nn.Sequential(nn.Linear(FEATURES, 3)))
    build(nn.Sequential(nn.Linear(FEATURES, 3)), out_features=3)


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: BDCSPN(Same(), confident=0), r"at least 1 query, received confident=0"),
        (lambda: LaplacianShot(Same(), smoothness=-1), r"LaplacianShot needs a smoothness, .* received -1, 2 and 20"),
        (lambda: TIM(Same(), steps=-1), r"TIM cannot take a negative number of steps, received -1"),
        (lambda: TIM(Same(), temperature=0), r"temperature and alpha must be above 0, received 0 and 1"),
        (lambda: AlphaTIM(Same(), steps=-2), r"α-TIM cannot take a negative number of steps, received -2"),
        (lambda: AlphaTIM(Same(), alpha=0), r"temperature and alpha must be above 0, received 15\.0 and 0"),
        (
            lambda: PTMAP(Same(), power=0),
            r"PT-MAP needs a power and sharpness above 0, .* received 0, 10\.0, 20 and 0\.2",
        ),
        (lambda: TransductiveFineTune(Same(), lr=-1), r"at least 0, received 25, -1 and 1\.0"),
    ],
)
def test_bad_options(build: Callable[[], AbstractLearner], match: str) -> None:
    with pytest.raises(InputError, match=match):
        build()


@pytest.mark.parametrize("build", EVERY)
def test_a_state_answers_for_its_own_tasks(build: Callable[..., AbstractLearner]) -> None:
    learner, episode = build(mlp(), classes=9).double(), tasks()
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
