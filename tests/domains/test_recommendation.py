"""Recommendation's baselines against formulas written anew, and predictions that no future moves."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.data.ratingpast import Past
from quickstudy.data.ratings import Ratings, _role
from quickstudy.data.ratingtasks import RatingTasks
from quickstudy.domains.recommendation.biases import GlobalMean, ItemMean, UserItemBias, learned_biases
from quickstudy.domains.recommendation.factors import ItemNeighbours, MatrixFactorisation
from quickstudy.domains.recommendation.study import by_group, errors_of, past_of, rating_curve, recommendation
from quickstudy.domains.study import study
from quickstudy.episode import Examples, Real
from quickstudy.errors import InputError
from quickstudy.evaluate.metatest import evaluating, meta_test
from quickstudy.learners.cnp import CNP
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.nets.ratingnet import RatingNet
from quickstudy.train import fit
from tests.data.test_ratings import FUTURES, Row, data_of, made_up, names

SIZES: dict[str, Any] = {"shot": 3, "query": [2, 20], "seed": 0}


def net_of(source: RatingTasks) -> RatingNet:
    example = source.shape.example
    assert isinstance(example, dict)
    torch.manual_seed(0)
    return RatingNet(example, items=20, width=4, hidden=(8,))


def trained(learner: AbstractLearner, data: Ratings) -> AbstractLearner:
    source = data.tasks("train", shot=[1, 4], query=[2, 6], seed=0)
    fit(learner, source, steps=5, tasks_per_step=4, lr=1e-2)
    return learner


MADE: dict[str, Callable[[Ratings], AbstractLearner]] = {
    "global mean": lambda data: GlobalMean(),
    "item mean": lambda data: ItemMean(data.past),
    "bias": lambda data: UserItemBias(data.past),
    "factors": lambda data: MatrixFactorisation(data.past, factors=3, rounds=5),
    "neighbours": lambda data: ItemNeighbours(data.past),
    "maml": lambda data: trained(MAML(net_of(data.tasks("train", **SIZES)), 1, "real", inner_steps=2), data),
    "cnp": lambda data: trained(CNP(net_of(data.tasks("train", **SIZES)), 1, "real", width=8), data),
}


def predictions(data: Ratings, learner: AbstractLearner) -> dict[tuple[str, int], float]:
    """Of each (test user, place in the user's queries) the rating predicted, as it was computed."""
    source = data.tasks("test", **SIZES)
    episode = source.episodes(range(source.n_user))
    found = {}
    with torch.no_grad(), evaluating(learner):
        for task, user in enumerate(names(source, episode)):
            state, query = learner.adapt(episode.support.task(task)), episode.query.task(task).unlabelled()
            for place in range(query.n_example):  # one at a time, so that nothing is summed in another order
                found[user, place] = float(learner.predict(state, query.rows(slice(place, place + 1))))
    return found


@pytest.mark.parametrize("name", MADE)
def test_no_past_prediction_moves_with_the_future(tmp_path: Path, name: str) -> None:
    """All that happens behind a moment in the middle of the test is another: what was predicted before stays.

    Users, items, baselines and learners are made anew from the changed file, so that every way is covered by which
    something could know of the future.
    """
    rows, moment = made_up(), 1500.0
    before = predictions(data_of(tmp_path, rows), MADE[name](data_of(tmp_path, rows)))
    changed = [(u, i, r if t < moment else 6 - r, t) for u, i, r, t in rows]
    changed += [(f"new{n % 40}", f"a{n}", 1.0, moment + n) for n in range(400)]
    changed = [row for row in changed if not (row[3] > 1800 and row[0].endswith("7"))]  # and some never happens
    after = predictions(data_of(tmp_path, changed), MADE[name](data_of(tmp_path, changed)))
    asked = {at: when for at, when in times(data_of(tmp_path, rows)).items() if when < moment}
    common = [at for at in asked if at in after]
    assert len(common) > 50
    assert all(before[at] == after[at] for at in common)


def times(data: Ratings) -> dict[tuple[str, int], float]:
    source = data.tasks("test", **SIZES)
    found = {}
    for user, begin, asked, end in zip(
        source.histories.users, source.histories.begin, source.histories.asked, source.histories.end, strict=True
    ):
        for place, row in enumerate(range(begin + max(asked, 3), begin + end)):
            found[data.table.users[user], place] = float(data.table.time[row])
    return found


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("change", FUTURES)
def test_what_is_learned_before_the_cut_is_the_same_whatever_comes(
    tmp_path: Path, name: str, change: Callable[[list[Row]], list[Row]]
) -> None:
    weights = [MADE[name](data_of(tmp_path, rows)).state_dict() for rows in (made_up(), change(made_up()))]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())


@pytest.mark.parametrize("name", MADE)
def test_a_query_alone(tmp_path: Path, name: str) -> None:
    """What is predicted of one item does not depend on those asked with it, nor on padding."""
    data = data_of(tmp_path, made_up())
    learner, source = MADE[name](data).double(), data.tasks("test", **SIZES)
    episode = source.episodes(range(6))
    with torch.no_grad(), evaluating(learner):
        together = learner.predict(learner.adapt(episode.support), episode.query.unlabelled())
        for t in range(6):
            state = learner.adapt(episode.support.task(t))
            query = episode.query.task(t).unlabelled()
            for row in range(query.n_example):
                alone = learner.predict(state, query.rows(slice(row, row + 1)))
                assert float(alone) == pytest.approx(float(together[t, row]), abs=1e-9)


# --- baselines against formulas ------------------------------------------------------------------------------------


def past(tmp_path: Path) -> Past:
    return data_of(tmp_path, made_up()).past


def test_biases_solve_their_equations(tmp_path: Path) -> None:
    """b_i and b_u minimise Σ (y - b_i - b_u)² + λ_i Σ b_i² + λ_u Σ b_u²: one linear system, solved at once."""
    known = past(tmp_path)
    n_item, n_user = known.n_item, known.n_user
    design = np.zeros((len(known.value), n_item + n_user))
    design[np.arange(len(design)), known.item - 1] = 1
    design[np.arange(len(design)), n_item + known.user] = 1
    weight = np.diag([3.0] * n_item + [4.0] * n_user)
    expected = np.linalg.solve(design.T @ design + weight, design.T @ known.value)[:n_item]
    found = learned_biases(known, 3.0, 4.0)
    assert found[0] == 0 and np.allclose(found[1:], expected, atol=1e-6)


def examples(item: list[list[int]], y: list[list[float]], mask: list[list[bool]] | None = None) -> Examples:
    return Examples(
        {"item": torch.tensor(item), "features": torch.zeros(len(item), len(item[0]), 2)},
        torch.tensor(y)[..., None],
        Real(1),
        None if mask is None else torch.tensor(mask),
    )


def test_the_user_is_drawn_to_none(tmp_path: Path) -> None:
    known = past(tmp_path)
    learner = UserItemBias(known, item_weight=3.0, user_weight=4.0)
    bias = learned_biases(known, 3.0, 4.0)
    state = learner.adapt(examples([[1, 2, 9]], [[1.0, 2.0, 99.0]], [[True, True, False]]))
    level = (1 - bias[1] + 2 - bias[2]) / (2 + 4)
    said = learner.predict(state, examples([[3, 0]], [[0.0, 0.0]]))[0, :, 0]
    assert said.tolist() == pytest.approx([bias[3] + level, level])
    more = learner.adapt(examples([[5]], [[3.0]]), state=state)
    once = learner.adapt(examples([[1, 2, 5]], [[1.0, 2.0, 3.0]]))
    assert torch.allclose(more.total, once.total) and torch.equal(more.count, once.count)


def test_item_means(tmp_path: Path) -> None:
    known = past(tmp_path)
    learner = ItemMean(known, weight=0)
    said = learner.predict(learner.adapt(examples([[1]], [[0.0]])), examples([[1, 0]], [[0.0, 0.0]]))[0, :, 0]
    assert said.tolist() == pytest.approx([known.value[known.item == 1].mean(), 0])


def test_fold_in_is_the_least_of_its_sum(tmp_path: Path) -> None:
    """No small step from the solution makes the penalised sum of squares less."""
    learner = MatrixFactorisation(past(tmp_path), factors=3, penalty=0.5, bias_penalty=2.0, rounds=20)
    support = examples([[1, 4, 7, 2]], [[1.0, -1.0, 0.5, 9.0]], [[True, True, True, False]])
    state = learner.adapt(support)
    q, b = learner.factors[torch.tensor([1, 4, 7])], learner.bias[torch.tensor([1, 4, 7])]
    assert q.abs().max() > 0

    def total(p: torch.Tensor) -> torch.Tensor:
        rest = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64) - b - p[3] - q @ p[:3]
        return rest.square().sum() + 0.5 * p[:3].square().sum() + 2.0 * p[3].square()

    found = torch.cat([state.factors[0], state.bias]).requires_grad_()
    (slope,) = torch.autograd.grad(total(found), found)
    assert slope.abs().max() < 1e-9


def test_neighbours_pull_by_their_similarity(tmp_path: Path) -> None:
    """Cosines of centred ratings over the users who rated both items, computed here from the past."""
    known = past(tmp_path)
    learner = ItemNeighbours(known, item_weight=3.0, user_weight=4.0, doubt=1.5)
    table = np.zeros((known.n_user, known.n_item + 1))
    for user in range(known.n_user):
        mine = known.user == user
        table[user, known.item[mine]] = known.value[mine] - known.value[mine].mean()
    rated = np.zeros_like(table)
    rated[known.user, known.item] = 1
    both = rated[:, 1] * rated[:, 2] > 0
    a, c = table[both, 1], table[both, 2]
    alike = a @ c / np.linalg.norm(a) / np.linalg.norm(c)
    bias = learned_biases(known, 3.0, 4.0)
    level = (2.0 - bias[2]) / 5
    pull = alike * (2.0 - bias[2] - level) / (abs(alike) + 1.5)
    said = learner.predict(learner.adapt(examples([[2]], [[2.0]])), examples([[1, 0]], [[0.0, 0.0]]))[0, :, 0]
    assert said.tolist() == pytest.approx([bias[1] + level + pull, level], abs=1e-6)


# --- the network ------------------------------------------------------------------------------------


def test_embeddings_stay_outside(tmp_path: Path) -> None:
    data = data_of(tmp_path, made_up())
    learner = MAML(net_of(data.tasks("train", **SIZES)), 1, "real")
    assert set(learner.model.adapted) == {"net.linears.0.weight", "net.linears.0.bias", "head.weight", "head.bias"}
    episode = data.tasks("train", **SIZES).episodes(range(4))
    grad = torch.autograd.grad(learner.meta_loss(episode).loss.sum(), learner.model.net.embedding.weight)[0]  # type: ignore[union-attr,arg-type]
    assert grad.abs().max() > 0, "but they are meta-trained"


@pytest.mark.parametrize("strategy", ["loop", "vmap", "batched"])
def test_all_strategies_agree(tmp_path: Path, strategy: str) -> None:
    source = data_of(tmp_path, made_up()).tasks("train", shot=[1, 4], query=[2, 6], seed=0)
    episode = source.episodes(range(5))
    losses = []
    for way in ("loop", strategy):
        learner = MAML(net_of(source), 1, "real", inner_steps=2, strategy=way).double()  # type: ignore[arg-type]
        torch.manual_seed(1)
        for p in learner.parameters():
            torch.nn.init.normal_(p, std=0.3)
        losses.append(learner.meta_loss(episode).loss)
    assert torch.allclose(losses[0], losses[1], atol=1e-10)


def test_rare_items_share_the_embedding_of_the_unknown() -> None:
    net = RatingNet({"item": (), "features": (2,)}, items=3, width=4, hidden=(5,))
    x = {"item": torch.tensor([0, 3, 4, 99]), "features": torch.zeros(4, 2)}
    out = net(x)
    assert torch.equal(out[0], out[2]) and torch.equal(out[0], out[3]) and not torch.equal(out[0], out[1])


def test_sentences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"'ratings' is made for examples with 'item' and 'features', received \(3,\)"):
        RatingNet((3,))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"needs at least one item, .* received items=0, width=16"):
        RatingNet({"item": (), "features": (2,)}, items=0)
    plain = Examples(torch.zeros(1, 2, 3), None, Real(1))
    with pytest.raises(InputError, match=r"needs examples with 'item', the item's number"):
        ItemMean(past(tmp_path)).predict(torch.zeros(1, 1), plain)
    with pytest.raises(InputError, match=r"fitted to ratings, received int\. Use the data set 'ratings'"):
        past_of(3)  # type: ignore[arg-type]
    import builtins

    real = builtins.__import__

    def refuse(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("cornac"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(InputError, match=r"cornac, which is not installed\. Install quickstudy\[recommend\]\."):
        MatrixFactorisation(past(tmp_path))


# --- the study ------------------------------------------------------------------------------------


def test_the_study_is_found_and_its_curve_drawn() -> None:
    found = study("recommendation")
    assert [column.tasks["shot"] for column in found.columns] == [1, 3, 5, 10]
    assert found.recipe == recommendation().recipe and len(found.rivals) == 5
    drawn = rating_curve({"meta-learned": [1.3, 1.2, 1.1, 1.0], "item mean": [1.4, 1.4, 1.4, 1.4]})
    assert "meta-learned: 1.300 with 1, 1.000 with 10." in drawn.alt


def test_errors_by_what_was_known(tmp_path: Path) -> None:
    source = data_of(tmp_path, made_up()).tasks("test", **SIZES)
    errors, asked = errors_of(GlobalMean(), source, 8), source.asked(range(8))
    head, rows = by_group({"mean": errors, "half": errors / 2}, asked.rated, (0, 1, 5), "past ratings")
    numbers = [int(text.split(", ")[1].removesuffix(" asked")) for text in head]
    assert [text.split(" past")[0] for text in head] == ["0", "1 to 4", "5 or more"]
    assert sum(numbers) == int(source.episodes(range(8)).query.real.sum()) and min(numbers) > 0
    new = errors[asked.rated == 0]
    assert rows[0] == ("mean", *rows[0][1:]) and rows[0][1] == f"{np.abs(new).mean():.3f} ({new.mean():+.2f})"
    assert by_group({"mean": errors}, asked.rated, (0, 1000), "x")[1][0][2] == "-", "nothing was asked"
    mean = np.nanmean(np.abs(errors), 1)
    assert np.allclose(meta_test(GlobalMean(), source, episodes=8).per_episode, mean, atol=1e-4)


def test_roles_used_here_are_there() -> None:
    assert {_role(f"u{n}") for n in range(60)} == {"train", "validation", "test"}
