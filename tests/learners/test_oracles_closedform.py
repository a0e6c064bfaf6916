"""R2D2, LR-D2, MetaOptNet, DKT, ridge and boosting against scikit-learn, SciPy, and the papers' formulas in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.special import log_softmax
from torch import Tensor, nn
from torch.nn import functional as F

from quickstudy.episode import Episode, Examples, MultiLabel, Real
from quickstudy.errors import InputError
from quickstudy.learners.boosting import Boosting
from quickstudy.learners.dkt import DKT
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.lrd2 import LRD2
from quickstudy.learners.metaoptnet import MetaOptNet, smoothed_loss
from quickstudy.learners.parts.embedder import Embedder
from quickstudy.learners.parts.kernels import Kernel
from quickstudy.learners.r2d2 import R2D2
from quickstudy.learners.ridge import Ridge
from quickstudy.nets import MLP
from tests.rows.closedform import ROWS
from tests.smalltasks import assert_close, make, mlp, numbers, outputs, ragged, tasks

ROW = {row.name: row for row in ROWS}
Floats = NDArray[np.float64]


def embedded(learner: AbstractLearner, episode: Episode) -> tuple[Floats, Floats]:
    """Features of support and query straight from the network, ``[T, N, D]``."""
    assert isinstance(learner.embed, Embedder)
    return embedded_by(learner.embed.net, episode)


def embedded_by(net: nn.Module, episode: Episode) -> tuple[Floats, Floats]:
    with torch.no_grad():
        both = [net(part.x.flatten(0, 1)).unflatten(0, part.x.shape[:2]) for part in (episode.support, episode.query)]  # type: ignore[union-attr]
    return both[0].numpy(), both[1].numpy()


def ones(x: Floats) -> Floats:
    return np.concatenate([x, np.ones_like(x[..., :1])], -1)


def truth(examples: Examples) -> NDArray[np.int64]:
    assert examples.y is not None
    return examples.y.numpy()


# --- R2D2 -----------------------------------------------------------------------------------------


def test_r2d2_against_the_authors_formula() -> None:
    """X and Y divided by the root of the rows, W = Xᵀ (X Xᵀ + λ I)⁻¹ Y, then scale and bias."""
    learner, episode = make(ROW["r2d2"]), tasks()
    assert isinstance(learner, R2D2)
    with torch.no_grad():
        learner.bias.fill_(0.3)
    support, query = embedded(learner, episode)
    said = outputs(learner, episode)
    for t in range(3):
        x, y = ones(support[t]) / 3, np.eye(3)[truth(episode.support)[t]] / 3  # 9 rows
        w = x.T @ np.linalg.inv(x @ x.T + 0.5 * np.eye(9)) @ y
        assert_close(said[t], torch.from_numpy(10 * ones(query[t]) @ w + 0.3), 1e-6)  # log(0.5) was a float32


def test_r2d2_on_real_targets_against_scikit_learn() -> None:
    from sklearn import linear_model

    learner, episode = make(ROW["r2d2-real"]), tasks("real")
    assert isinstance(learner, R2D2) and episode.support.y is not None
    support, query = embedded(learner, episode)
    for t in range(3):
        model = linear_model.Ridge(alpha=9 * float(learner.log_penalty.detach().exp()), fit_intercept=False, tol=1e-12)
        model.fit(ones(support[t]), episode.support.y[t].numpy())
        assert_close(outputs(learner, episode)[t], torch.from_numpy(model.predict(ones(query[t]))), 1e-8)


def test_r2d2_learns_several_labels_as_several_columns() -> None:
    learner, episode = make(ROW["r2d2"]), tasks()
    assert episode.support.y is not None and not isinstance(episode.support.target, str)
    labels = F.one_hot(episode.support.y, 3)
    several = replace(episode.support, y=labels, target=MultiLabel(torch.full((3,), 3)))
    with torch.no_grad():
        said = learner.predict(learner.adapt(several), episode.query)
    assert_close(said, outputs(learner, episode))
    asked = replace(episode.query, y=F.one_hot(episode.query.y, 3), target=MultiLabel(torch.full((3,), 3)))  # type: ignore[arg-type]
    assert torch.isfinite(learner.meta_loss(Episode(several, asked)).loss).all()


def test_r2d2_learns_its_penalty_unless_told_not_to() -> None:
    names = [dict(make(ROW[name]).named_parameters()) for name in ("r2d2", "r2d2-fixed-penalty")]
    assert "log_penalty" in names[0] and "log_penalty" not in names[1]
    assert "log_penalty" in make(ROW["r2d2-fixed-penalty"]).state_dict()


# --- LR-D2 ----------------------------------------------------------------------------------------


def test_lrd2_against_scikit_learn() -> None:
    """With steps enough each class is a logistic regression against the rest; the multinomial form is one of all."""
    from sklearn.linear_model import LogisticRegression

    episode = tasks()
    several, one = make(ROW["lr-d2"]), make(ROW["lr-d2-multinomial"])
    assert isinstance(several, LRD2) and isinstance(one, LRD2)
    several.iterations = 15
    support, query = embedded(several, episode)
    c = 1 / float(several.log_penalty.detach().exp())
    for t in range(3):
        y = truth(episode.support)[t]
        for k in range(3):
            model = LogisticRegression(C=c, fit_intercept=False, tol=1e-12, max_iter=10000)
            model.fit(ones(support[t]), (y == k).astype(int))
            expected = torch.from_numpy(model.decision_function(ones(query[t])))
            assert_close(outputs(several, episode)[t, :, k], expected, 1e-5)
        model = LogisticRegression(C=c, fit_intercept=False, tol=1e-12, max_iter=10000, solver="newton-cg")
        expected = torch.from_numpy(model.fit(ones(support[t]), y).decision_function(ones(query[t])))
        assert_close(outputs(one, episode)[t], expected, 1e-5)


def test_one_iteration_of_lrd2_is_ridge_regression() -> None:
    """From zero weights p = 1/2: w = (Xᵀ X + 4 λ I)⁻¹ Xᵀ (4 y - 2)."""
    from sklearn import linear_model

    learner, episode = make(ROW["lr-d2"]), tasks()
    assert isinstance(learner, LRD2)
    learner.iterations = 1
    support, query = embedded(learner, episode)
    for t in range(3):
        model = linear_model.Ridge(alpha=4 * float(learner.log_penalty.detach().exp()), fit_intercept=False, tol=1e-12)
        model.fit(ones(support[t]), 4 * np.eye(3)[truth(episode.support)[t]] - 2)
        assert_close(outputs(learner, episode)[t], torch.from_numpy(model.predict(ones(query[t]))), 1e-8)


# --- MetaOptNet -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["metaoptnet", "metaoptnet-large-c"])
def test_metaoptnet_against_liblinear(name: str) -> None:
    from sklearn.svm import LinearSVC

    learner, episode = make(ROW[name]), tasks()
    assert isinstance(learner, MetaOptNet)
    with torch.no_grad():
        learner.scale.fill_(2.5)
    support, query = embedded(learner, episode)
    losses = learner.meta_loss(episode).loss.detach()
    for t in range(3):
        model = LinearSVC(
            C=learner.c,
            multi_class="crammer_singer",
            fit_intercept=False,
            tol=1e-10,
            max_iter=3_000_000,
            random_state=0,
        ).fit(support[t], truth(episode.support)[t])
        expected = torch.from_numpy(2.5 * model.decision_function(query[t]))
        assert_close(outputs(learner, episode)[t], expected, 1e-6)
        log_p = log_softmax(expected.numpy(), 1)  # 12 queries, 3 classes: the two others share the smoothed part
        weight = np.full_like(log_p, learner.smoothing / 2)
        weight[np.arange(12), truth(episode.query)[t]] = 1 - learner.smoothing
        assert float(losses[t]) == pytest.approx(-(weight * log_p).sum(1).mean(), abs=1e-6)


def test_metaoptnet_with_the_identity_is_optimal_for_the_authors_problem() -> None:
    """No feasible change of the dual lowers 1/2 aᵀ (K + I) a - a_y: its gradient's projection is 0 (Dykstra)."""
    learner, episode = make(ROW["metaoptnet-identity"]), tasks()
    support, query = embedded(learner, episode)
    said = outputs(learner, episode)
    for t in range(3):
        y = np.eye(3)[truth(episode.support)[t]]
        kernel = support[t] @ support[t].T + np.eye(9)
        step, a = 1 / np.linalg.eigvalsh(kernel)[-1], np.zeros((9, 3))
        for _ in range(400):
            a = nearest_feasible(a - step * (kernel @ a - y), 0.1 * y)
        assert_close(said[t], torch.from_numpy(query[t] @ support[t].T @ a), 1e-7)


def nearest_feasible(a: Floats, upper: Floats) -> Floats:
    """The nearest point with ``a <= upper`` and rows that sum to 0: min(a + v, upper), v by bisection."""
    low, high = np.full((len(a), 1), -10.0), np.full((len(a), 1), 10.0)
    for _ in range(60):
        middle = (low + high) / 2
        too_low = np.minimum(a + middle, upper).sum(1, keepdims=True) < 0
        low, high = np.where(too_low, middle, low), np.where(too_low, high, middle)
    found: Floats = np.minimum(a + low, upper)
    return found


def test_metaoptnet_with_ridge_against_scikit_learn() -> None:
    from sklearn import linear_model

    learner, episode = make(ROW["metaoptnet-ridge"]), tasks()
    support, query = embedded(learner, episode)
    for t in range(3):
        model = linear_model.Ridge(alpha=0.5, fit_intercept=False, tol=1e-12)
        model.fit(support[t], np.eye(3)[truth(episode.support)[t]])
        assert_close(outputs(learner, episode)[t], torch.from_numpy(model.predict(query[t])), 1e-8)


def test_smoothing_against_torch() -> None:
    """Torch gives the smoothed share to all W classes, the true one too; ours to the W - 1 others, as the authors."""
    logits, query = numbers("logits", 3, 12, 3), tasks().query
    assert query.y is not None
    expected = F.cross_entropy(logits.transpose(1, 2), query.y, reduction="none", label_smoothing=0.1 * 3 / 2).mean(1)
    assert_close(smoothed_loss(logits, query, 0.1), expected)
    query = ragged(float("nan")).query
    logits = outputs(make(ROW["metaoptnet"]), ragged(0.0))
    plain = AbstractLearner.loss(make(ROW["metaoptnet"]), logits, query)
    assert_close(smoothed_loss(logits, query, 0.0), plain)
    assert torch.isfinite(smoothed_loss(logits, query, 0.1)).all()


# --- deep kernel transfer -------------------------------------------------------------------------


def sklearn_kernel(name: str, size: float, length: float):  # type: ignore[no-untyped-def]
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    constant = ConstantKernel(size, "fixed")
    return constant * (RBF(length, "fixed") if name == "rbf" else DotProduct(0.0, "fixed"))


@pytest.mark.parametrize("name", ["linear", "cosine", "bn-cosine", "rbf"])
@pytest.mark.parametrize("target", ["classes", "real"])
def test_dkt_against_scikit_learn(name: str, target: str) -> None:
    """Posterior mean, variance, and the marginal likelihood of support and query together."""
    from sklearn.gaussian_process import GaussianProcessRegressor

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        learner = DKT(mlp(), target, kernel=name).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        learner.kernel.log_size.fill_(0.4)
        learner.mean.fill_(-0.3)
        if name == "rbf":
            learner.kernel.log_length.fill_(-0.5)
    episode, size, length, noise = tasks(target), np.exp(0.4), np.exp(-0.5), float(learner.noise.detach())
    if name == "bn-cosine":
        norm = learner.embed.net[2]  # type: ignore[index]
        with torch.no_grad():
            norm.running_mean.copy_(numbers("mean", 5))
            norm.running_var.copy_(numbers("var", 5).exp())
        inner = embedded_by(learner.embed.net[0], episode)  # type: ignore[index]
        mean, deviation = numbers("mean", 5).numpy(), np.sqrt(numbers("var", 5).exp().numpy() + 1e-5)
        support, query = ((f - mean) / deviation for f in inner)
    else:
        support, query = embedded(learner, episode)
    if name in ("cosine", "bn-cosine"):
        support, query = (f / np.linalg.norm(f, axis=2, keepdims=True) for f in (support, query))
    y = [labels(part) + 0.3 for part in (episode.support, episode.query)]
    with torch.no_grad():
        state = learner.adapt(episode.support)
        mean, variance = learner.predict(state, episode.query).numpy(), learner.variance(state, episode.query).numpy()
    loss = learner.meta_loss(episode).loss
    for t in range(3):
        likely = 0.0
        for column in range(y[0].shape[2]):
            model = GaussianProcessRegressor(sklearn_kernel(name, size, length), alpha=noise, optimizer=None)
            expected, deviation = model.fit(support[t], y[0][t, :, column]).predict(query[t], return_std=True)
            np.testing.assert_allclose(mean[t, :, column], expected - 0.3, atol=1e-8)
            np.testing.assert_allclose(variance[t], deviation**2 + noise, atol=1e-7)
            model.fit(np.concatenate([support[t], query[t]]), np.concatenate([y[0][t, :, column], y[1][t, :, column]]))
            likely += model.log_marginal_likelihood_value_
        assert float(loss[t].detach()) == pytest.approx(-likely / 21, rel=1e-8)  # 9 and 12 rows


def labels(examples: Examples) -> Floats:
    """±1 a class, or the values."""
    y: Floats = np.asarray(examples.y)
    return 2 * np.eye(3)[y] - 1 if y.ndim == 2 else y


def test_spectral_kernel_against_the_formula() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kernel = Kernel("spectral", 3, mixtures=2).double()
    f, g = numbers("f", 2, 4, 3), numbers("g", 2, 5, 3)
    size, width, frequency = (
        p.detach().exp().numpy() for p in (kernel.log_size, kernel.log_width, kernel.log_frequency)
    )
    found = kernel(f, g).detach().numpy()
    for t in range(2):
        for i in range(4):
            for j in range(5):
                tau, value = f[t, i].numpy() - g[t, j].numpy(), 0.0
                for q in range(2):
                    each = np.exp(-2 * (np.pi * tau * width[q]) ** 2) * np.cos(2 * np.pi * tau * frequency[q])
                    value += size[q] * each.prod()
                assert found[t, i, j] == pytest.approx(value, rel=1e-10)
    assert_close(kernel.variance(f), kernel(f, f).diagonal(dim1=1, dim2=2))


@pytest.mark.parametrize("name", ["linear", "cosine", "rbf"])
def test_a_kernels_variance_is_its_diagonal(name: str) -> None:
    kernel, f = Kernel(name).double(), numbers("f", 2, 4, 3)  # type: ignore[arg-type]
    assert_close(kernel.variance(f), kernel(f, f).diagonal(dim1=1, dim2=2))


def test_dkt_is_less_sure_where_it_has_seen_nothing() -> None:
    learner, episode = make(ROW["dkt-real"]), tasks("real")
    assert isinstance(learner, DKT)
    with torch.no_grad():
        state = learner.adapt(episode.support)
        seen, asked = learner.variance(state, episode.support.unlabelled()), learner.variance(state, episode.query)
    assert (seen.mean(1) < asked.mean(1)).all() and (seen > learner.noise).all()


# --- baselines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["classes", "real"])
@pytest.mark.parametrize("shot", [1, 3])
def test_ridge_against_scikit_learn(target: str, shot: int) -> None:
    from sklearn import linear_model

    episode = tasks(target, shot=shot)
    said = outputs(Ridge(penalty=0.7), episode)
    for t in range(3):
        y = np.asarray(episode.support.y[t])  # type: ignore[index]
        columns = np.eye(3)[y] if target == "classes" else y
        model = linear_model.Ridge(alpha=0.7, tol=1e-12).fit(episode.support.x[t].numpy(), columns)  # type: ignore[index]
        assert_close(said[t], torch.from_numpy(model.predict(episode.query.x[t].numpy())), 1e-8)  # type: ignore[index]


def test_boosting_against_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    episode = ragged(float("nan"))
    said = outputs(Boosting(trees=7, rate=0.3), episode)
    for t in range(3):
        s, q = episode.support.task(t), episode.query.task(t)
        model = HistGradientBoostingClassifier(max_iter=7, learning_rate=0.3, min_samples_leaf=1, early_stopping=False)
        model.fit(s.x[0].numpy(), s.y[0].numpy())  # type: ignore[index]
        expected = torch.from_numpy(model.predict_proba(q.x[0].numpy()))  # type: ignore[index]
        way = expected.shape[1]
        assert_close(said[t, episode.query.real[t], :way].softmax(1), expected, 1e-8)
    episode = tasks("real", shot=6)
    said = outputs(Boosting(trees=7, rate=0.3), episode)
    for t in range(3):
        for column in range(2):
            tree = HistGradientBoostingRegressor(
                max_iter=7, learning_rate=0.3, min_samples_leaf=1, early_stopping=False
            ).fit(episode.support.x[t].numpy(), episode.support.y[t, :, column].numpy())  # type: ignore[index]
            expected = torch.from_numpy(tree.predict(episode.query.x[t].numpy()))  # type: ignore[index]
            assert_close(said[t, :, column], expected, 1e-8)


def test_one_boosted_tree_of_rate_one_gives_each_side_its_mean() -> None:
    x = torch.tensor([[[0.0], [0.1], [0.2], [5.0], [5.1], [5.2]]], dtype=torch.float64)
    y = torch.tensor([[[1.0], [1.0], [1.0], [4.0], [4.0], [4.0]]], dtype=torch.float64)
    episode = Episode(Examples(x, y, Real(1)), Examples(x + 0.05, y, Real(1)))
    assert_close(outputs(Boosting(trees=1, rate=1.0, leaves=2), episode), y, 1e-6)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: R2D2(mlp(), penalty=0.0), r"R2D2 needs a penalty above 0, received 0\.0"),
        (lambda: LRD2(mlp(), iterations=0), r"LR-D2 needs a penalty above 0 and at least 1 iteration, received 50"),
        (lambda: MetaOptNet(mlp(), c=-1.0), r"MetaOptNet needs c and penalty above 0 and smoothing from 0 to below 1"),
        (lambda: DKT(mlp(), noise=0.0), r"DKT needs a noise above 0\.0001, received 0\.0"),
        (lambda: DKT(nn.Identity(), kernel="spectral"), r"needs at least one mixture and a network with an attribute"),
        (
            lambda: DKT(nn.Identity(), kernel="bn-cosine"),
            r"Cannot build kernel='bn-cosine' on Identity: .* Give the network an attribute out_features\.$",
        ),
        (lambda: Ridge(penalty=0.0), r"Ridge regression needs a penalty above 0, received 0\.0"),
        (lambda: Ridge(MLP(4, norm="transductive")), r"This baseline needs features that do not depend on"),
        (lambda: Boosting(trees=0), r"Boosting needs at least 1 tree, 2 leaves, 1 example a leaf and a rate above 0"),
    ],
)
def test_options_out_of_range_are_refused(build, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize("name", ["r2d2", "lr-d2", "metaoptnet", "dkt", "ridge", "boosting"])
def test_states_are_not_gone_on_from_and_answer_for_their_own_tasks(name: str) -> None:
    learner, episode = make(ROW[name]), tasks()
    with pytest.raises(InputError, match=r"cannot go on from a state: fit it to all examples at once"):
        learner.adapt(episode.support, state=learner.adapt(episode.support))
    state = learner.adapt(episode.support.tasks(slice(0, 1)))
    with pytest.raises(InputError, match=r"Cannot predict: the state is of 1 tasks, the query of 3"):
        learner.predict(state, episode.query)
    y = episode.support.y
    assert isinstance(y, Tensor)
    with pytest.raises(InputError, match=r"Class 2 of task 0 has no labelled example in the support"):
        learner.adapt(replace(episode.support, y=y.masked_fill(y == 2, 1)))


@pytest.mark.parametrize("name", ["lr-d2", "metaoptnet"])
def test_classifiers_refuse_real_targets(name: str) -> None:
    with pytest.raises(InputError, match=r"This learner needs classes, the tasks have Real"):
        make(ROW[name]).adapt(tasks("real").support)
