"""Meta-testing small learners whose answers are known."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.data.source import TaskShape
from quickstudy.episode import Episode, EpisodeError, Examples
from quickstudy.errors import InputError
from quickstudy.evaluate import Result, class_ci95, meta_test
from quickstudy.evaluate.metatest import diverged_episodes, evaluating
from quickstudy.keys import Integers, Keys
from quickstudy.learners.learner import task_metric
from tests.evaluate.fakes import Factor, Lines, NearestMean, Points, global_states


def test_the_figures_are_those_of_adapt_predict_and_task_metric() -> None:
    source = Points()
    result = meta_test(NearestMean(), source, episodes=40)
    episode, learner = source.episodes(range(40)), NearestMean()
    state = learner.adapt(episode.support, key=Keys.default(40))
    expected = task_metric(learner.predict(state, episode.query), episode.query)[1].double().numpy()
    assert result.metric == "accuracy"
    np.testing.assert_allclose(result.per_episode, expected, atol=1e-6)
    assert result.mean == pytest.approx(expected.mean(), abs=1e-6) and 0.5 < result.mean < 0.99
    assert result.ci95 == pytest.approx(1.96 * expected.std(ddof=1) / math.sqrt(40), abs=1e-6)
    assert result.median == pytest.approx(np.median(expected), abs=1e-6)
    assert result.ci95_classes is not None and 0.01 < result.ci95_classes < 0.2
    assert result.mean_converged == result.mean and result.diverged == 0


def test_the_result_says_what_was_tested() -> None:
    source = Points(seed=3)
    result = meta_test(NearestMean(transductive=True), source, episodes=5, seed=11)
    assert (result.episodes, result.first, result.way, result.shot, result.query) == (5, 0, 5, 1, 3)
    assert (result.data, result.split, result.seed, result.learner_seed) == ("points", "test", 3, 11)
    assert (result.source_hash, result.source) == ("points-30", source.settings)
    assert (result.learner, result.transductive, result.balanced_prior) == ("NearestMean", True, False)
    assert result.seconds > 0


@pytest.mark.parametrize("tasks_at_once", [1, 7, 16, 100])
def test_chunks_change_nothing(tasks_at_once: int) -> None:
    whole = meta_test(NearestMean(), Points(), episodes=23)
    cut = meta_test(NearestMean(), Points(), episodes=23, tasks_at_once=tasks_at_once)
    assert dataclasses.replace(cut, seconds=0) == dataclasses.replace(whole, seconds=0)


class RaggedPoints(Points):
    """Ways 3, 4, 5, 3, ...: one task at a time, as wide as its own way."""

    def episodes(self, indices: range | Integers) -> Episode:
        (index,) = indices
        return Points(way=3 + index % 3).episodes(indices)


def test_chunks_of_different_ways_join() -> None:
    source = RaggedPoints(n_class=30)
    result = meta_test(NearestMean(), source, episodes=60, tasks_at_once=1)
    classes = np.full((60, 5), -1)
    for i in range(60):
        numbers = source.episodes(range(i, i + 1)).classes
        assert numbers is not None
        classes[i, : 3 + i % 3] = numbers[0]
    assert result.ci95_classes == class_ci95(np.array(result.per_episode), classes)


def test_episodes_can_be_taken_up_where_others_ended() -> None:
    source = Points()
    whole, later = meta_test(NearestMean(), source, episodes=30), None
    source.asked.clear()
    later = meta_test(NearestMean(), source, episodes=10, first=20, tasks_at_once=4)
    assert later.per_episode == whole.per_episode[20:]
    assert source.asked == list(range(20, 30))


def test_randomness_belongs_to_the_task_and_the_seed() -> None:
    def bits(**options: Any) -> Tensor:
        learner = NearestMean()
        meta_test(learner, Points(), **options)
        return torch.from_numpy(np.concatenate([key.bits(1).astype(np.int64) for key in learner.keys]))

    whole = bits(episodes=12)
    assert torch.equal(bits(episodes=12, tasks_at_once=5), whole)
    assert torch.equal(bits(episodes=4, first=8), whole[8:])
    assert not torch.isin(bits(episodes=12, seed=1), whole).any()


def test_the_learner_sees_no_label_no_gradient_and_no_training_mode() -> None:
    learner = NearestMean()
    meta_test(learner, Points(), episodes=3)
    assert (learner.saw_labels, learner.saw_grad, learner.saw_training) == (False, False, False)


class Stops(NearestMean):
    """Does what Ctrl-C does."""

    def predict(self, state: dict[str, Tensor], query: Examples, *, key: Keys | None = None) -> Tensor:
        raise KeyboardInterrupt


@pytest.mark.parametrize("kind", [NearestMean, Stops])
def test_training_flags_are_restored_one_by_one(kind: type[NearestMean]) -> None:
    learner = kind()
    learner.train()
    learner.inner[0].eval()  # a frozen part stays frozen
    before = [module.training for module in learner.modules()]
    if kind is Stops:
        with pytest.raises(KeyboardInterrupt):
            meta_test(learner, Points(), episodes=2)
    else:
        meta_test(learner, Points(), episodes=2)
    assert [module.training for module in learner.modules()] == before == [True, True, False, True]


def test_evaluating_is_eval_mode_for_a_while() -> None:
    learner = NearestMean()
    with evaluating(learner):
        assert not any(module.training for module in learner.modules())
    assert all(module.training for module in learner.modules())


class AdaptsByGradient(Factor):
    """Enables gradients itself, as MAML does, and so hands out a state with a graph."""

    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Tensor:
        with torch.enable_grad():
            weight = torch.ones(support.n_task, requires_grad=True)
            loss = (weight[:, None, None] * torch.as_tensor(support.x)).square().sum()
            (gradient,) = torch.autograd.grad(loss, weight, create_graph=True)
            return weight - 0.1 * gradient


def test_a_learner_may_take_gradients_to_adapt() -> None:
    result = meta_test(AdaptsByGradient({}), Lines(), episodes=4)
    assert all(math.isfinite(value) for value in result.per_episode)


def test_global_generators_are_left_alone() -> None:
    learner = NearestMean()
    before = global_states()
    meta_test(learner, Points(), episodes=5)
    assert global_states() == before


def test_progress_is_told_after_every_chunk() -> None:
    told: list[tuple[int, int]] = []
    meta_test(
        NearestMean(),
        Points(),
        episodes=10,
        first=3,
        tasks_at_once=4,
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(4, 10), (8, 10), (10, 10)]


# --- what goes wrong in single episodes ---------------------------------------------------------


def test_a_nan_is_a_wrong_answer_and_its_episode_counts() -> None:
    good = meta_test(NearestMean(), Points(), episodes=20)
    result = meta_test(NearestMean(broken=(2, 5)), Points(), episodes=20)
    assert result.diverged == 2 and result.episodes == 20
    changed = [i for i in range(20) if result.per_episode[i] != good.per_episode[i]]
    assert set(changed) <= {2, 5}
    assert result.per_episode[5] in (good.per_episode[5], pytest.approx(good.per_episode[5] - 1 / 15))
    rest = [value for i, value in enumerate(result.per_episode) if i not in (2, 5)]
    assert result.mean == pytest.approx(np.mean(result.per_episode))
    assert result.mean_converged == pytest.approx(np.mean(rest))


def test_regression_counts_infinite_and_absurd_errors_as_diverged() -> None:
    result = meta_test(Factor({1: 1e3, 4: math.nan, 6: 1e30}), Lines(), episodes=10, tasks_at_once=3)
    assert result.metric == "mse" and result.ci95_classes is None and result.way is None
    assert result.diverged == 3
    assert result.per_episode[4] == math.inf and math.isfinite(result.per_episode[6])
    assert result.mean == math.inf and result.ci95 == math.inf
    assert result.median < 1
    rest = [value for i, value in enumerate(result.per_episode) if i not in (1, 4, 6)]
    assert result.mean_converged == pytest.approx(np.mean(rest))
    assert result.ci95_converged == pytest.approx(1.96 * np.std(rest, ddof=1) / math.sqrt(7))


def test_the_yardstick_of_divergence_is_the_spread_of_the_labels() -> None:
    labels = np.array([[1.0], [3.0]])  # standard deviation 1: an error of up to 10 is bad, not diverged
    values, usable = np.array([99.0, 101.0, np.inf]), np.array([False, False, True])
    assert diverged_episodes(values, usable, labels).tolist() == [False, True, True]
    assert diverged_episodes(values, usable, 10 * labels).tolist() == [False, False, True]
    assert diverged_episodes(values, usable, np.ones((4, 1))).tolist() == [False, False, True]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_divergence_does_not_depend_on_the_unit(scale: float) -> None:
    result = meta_test(Factor({1: 100 * scale, 2: 3 * scale}), Lines(scale), episodes=10)
    assert result.diverged == 1


def test_no_episode_may_be_left() -> None:
    result = meta_test(Factor(dict.fromkeys(range(4), math.nan)), Lines(), episodes=4)
    assert result.diverged == 4 and result.median == math.inf
    assert result.mean_converged is None and result.ci95_converged is None


# --- what is refused at the door ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 0}, r"episodes must be a whole number of at least 1, found 0"),
        ({"first": -1}, r"first must be a whole number of at least 0, found -1"),
        ({"tasks_at_once": 0}, r"tasks_at_once must be a whole number of at least 1, found 0"),
    ],
)
def test_numbers_out_of_range_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(InputError, match=message):
        meta_test(NearestMean(), Points(), **options)  # type: ignore[arg-type]


def test_a_learner_of_another_target_is_refused() -> None:
    with pytest.raises(InputError, match=r"Cannot meta-test Factor on these tasks: their target is 'classes', and it"):
        meta_test(Factor({}), Points())


def test_a_learner_on_another_device_is_refused() -> None:
    with pytest.raises(InputError, match=r"on meta: the parameters of NearestMean lie on cpu\. Move it first"):
        meta_test(NearestMean(), Points(), episodes=1, device="meta")
    assert meta_test(NearestMean(), Points(), episodes=1, device="cpu").episodes == 1


class WithNaN(Lines):
    """Task 3 holds a NaN."""

    @property
    def shape(self) -> TaskShape:
        return TaskShape((1,), "real", 1)

    def episodes(self, indices: range | Integers) -> Episode:
        episode = super().episodes(indices)
        x = torch.as_tensor(episode.query.x).clone()
        x[episode.indices == 3, 1] = math.nan
        return dataclasses.replace(episode, query=dataclasses.replace(episode.query, x=x))


def test_nan_in_the_data_is_no_divergence_but_an_error() -> None:
    with pytest.raises(
        EpisodeError, match=r"query\.x: expected finite numbers, found NaN or infinity in task 1, row 1"
    ):
        meta_test(Factor({}), WithNaN(), episodes=5, tasks_at_once=2)


class Weighed(Points):
    """Points whose own figures are the mean absolute error of the label numbers, and one that task 1 does not have."""

    def figures(self, outputs: torch.Tensor, episode: Episode) -> dict[str, np.ndarray]:
        assert episode.query.y is not None
        off = (outputs.argmax(2) - episode.query.y).abs().double().mean(1).numpy()
        return {"mae": off, "auroc": np.where(episode.indices.numpy() == 1, np.nan, 0.5)}


def test_a_source_may_have_figures_of_its_own() -> None:
    plain, own = (meta_test(NearestMean(), source(), episodes=6) for source in (Points, Weighed))
    assert (own.metric, list(own.others)) == ("mae", ["auroc", "accuracy"]) and own.smaller_is_better
    assert own.others["accuracy"].per_episode == plain.per_episode and own.others["accuracy"].mean == plain.mean
    assert own.others["auroc"].per_episode == (0.5, None, 0.5, 0.5, 0.5, 0.5)
    assert own.by("accuracy").per_episode == plain.per_episode and own.by("accuracy").metric == "accuracy"
    assert Result.from_json(own.to_json()) == own
    assert "mae" in str(own) and "accuracy " in str(own)
    with pytest.raises(InputError, match=r"'auroc' is not defined for 1 of 6 episodes"):
        own.by("auroc")
    with pytest.raises(InputError, match=r"has no figure 'mse'. It has mae, auroc, accuracy"):
        own.by("mse")


def test_an_answer_that_is_no_number_has_the_worst_of_the_sources_figures() -> None:
    found = meta_test(NearestMean(broken=(2,)), Weighed(), episodes=4)
    assert found.per_episode[2] == np.inf and np.isfinite(found.per_episode[1]) and found.diverged == 1


def test_own_figures_of_another_number_of_tasks_are_refused() -> None:
    class Wrong(Points):
        def figures(self, outputs: torch.Tensor, episode: Episode) -> dict[str, np.ndarray]:
            return {"mae": np.zeros(1)}

    with pytest.raises(InputError, match=r"own figure 'mae' cannot be used: expected one number for each of the 3"):
        meta_test(NearestMean(), Wrong(), episodes=3)


def test_who_observes_is_told_of_every_answer() -> None:
    seen: list[tuple[tuple[int, ...], list[int]]] = []
    meta_test(
        NearestMean(),
        Points(),
        episodes=5,
        tasks_at_once=2,
        observe=lambda outputs, episode: seen.append((tuple(outputs.shape), episode.indices.tolist())),
    )
    assert [indices for _, indices in seen] == [[0, 1], [2, 3], [4]] and seen[0][0] == (2, 15, 5)
