"""GrBAL: the model learns what actions lead to, and plans are good where the model is."""

import pytest
import torch
from torch import Tensor

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.environments import environment
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.grbal import GrBAL, _sums
from quickstudy.learners.parts.dynamics import Dynamics, Scales, cross_entropy_plan
from quickstudy.learners.parts.rollouts import leaf, noise

WORLD = {"name": "point-navigation", "horizon": 5}


def learner(**options: object) -> GrBAL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GrBAL(2, WORLD, trajectories=3, hidden=(8,), plan=3, samples=16, kept=4, **options)  # type: ignore[arg-type]


def source(shot: int = 3) -> ControlTasks:
    return ControlTasks(environment(WORLD), split="train", shot=shot, query=3, seed=0)


class Known(Dynamics):
    """A model that knows: the point moves by a tenth of the action, the reward is minus the distance to (0.3, -0.2)."""

    def run(self, params: dict[str, Tensor], inputs: Tensor) -> Tensor:
        obs, action = inputs[..., :2], inputs[..., 2:]
        after = obs + 0.1 * action
        return torch.cat([0.1 * action, -(after - torch.tensor([0.3, -0.2])).norm(dim=2, keepdim=True)], 2)


def test_a_plan_with_a_model_that_knows_leads_to_the_goal() -> None:
    model, scales = Known(2, 2, (4,), "auto"), Scales(torch.zeros(7), torch.ones(7))
    draws = noise(Keys.default(1), 64, 3, 2)
    obs = torch.tensor([[[0.0, 0.0], [0.3, -0.2], [0.8, -0.2]]])
    first = torch.zeros(1, 3, 3, 2)
    plan = cross_entropy_plan(model, {}, scales, obs, draws, rounds=6, kept=8, first=first)
    assert plan[0, 0, 0, 0] > 0.8 and plan[0, 0, 0, 1] < -0.5
    assert plan[0, 1, 0].abs().max() < 0.25
    assert plan[0, 2, 0, 0] < -0.8


def test_rows_are_transitions_and_the_last_step_is_left_out() -> None:
    grbal = learner()
    played = grbal._at_random(source().episodes(range(2)).support, Keys.default(2))
    rows, made = grbal._rows(played)
    assert rows.shape == (2, 12, 7) and made.all()
    moved = 0.1 * leaf(played, "action").clamp(-1, 1)[:, :, :-1].flatten(1, 2)
    torch.testing.assert_close(rows[..., 4:6], moved)
    torch.testing.assert_close(rows[..., 6], leaf(played, "reward")[:, :, :-1].flatten(1, 2))


def test_scales_are_carried_and_absorbed_in_any_portion() -> None:
    grbal = learner()
    out = grbal.meta_loss(source().episodes(range(4)))
    assert float(grbal.count) == 0  # nothing is written but by the engine
    grbal.absorb(out.carried)
    parts = learner()
    for at in (0, 2):
        parts.absorb({name: value[at : at + 2] for name, value in out.carried.items()})
    assert float(grbal.count) == float(parts.count) == 4 * (4 + 12)
    played = grbal._at_random(source().episodes(range(2)).support, Keys.default(2))
    rows, made = grbal._rows(played)
    scales = Scales.of(**{name: value.sum(0) for name, value in _sums([(rows, made)]).items()})
    torch.testing.assert_close(scales.mean, rows.double().flatten(0, 1).mean(0))
    torch.testing.assert_close(scales.std, rows.double().flatten(0, 1).std(0, correction=0))


def test_adapting_makes_the_model_better_and_is_differentiated_through() -> None:
    grbal = learner(planned=False, inner_lr=0.1)
    episode, keys = source().episodes(range(4)), Keys.default(4)
    grbal.absorb(grbal.meta_loss(episode, key=keys).carried)
    played = grbal._at_random(episode.support, keys)
    rows, made = grbal._rows(played)
    scales, start = grbal._scales(), grbal.model.start(4)
    before = grbal._error(start, scales, rows, made)
    after = grbal._error(grbal._descended(start, scales, rows, made, create_graph=True), scales, rows, made)
    assert (after < before).all()
    weights = tuple(grbal.model.parameters())
    whole = torch.autograd.grad(after.sum(), weights)
    cut = {name: p.detach().requires_grad_() for name, p in start.items()}
    fixed = grbal._error(grbal._descended(cut, scales, rows, made, create_graph=False), scales, rows, made)
    first = torch.autograd.grad(fixed.sum(), tuple(cut.values()))
    gap = max(float((a - b.sum(0)).abs().max()) for a, b in zip(whole, first, strict=True))
    assert gap > 1e-3  # what the steps themselves change is part of it


def test_the_pair() -> None:
    grbal, keys = learner(), Keys.default(2)
    episode = source().episodes(range(2))
    grbal.absorb(grbal.meta_loss(episode, key=keys).carried)
    state = grbal.adapt(episode.support, key=keys)
    assert state.taken.tolist() == [5.0, 5.0] and len(grbal.stages(state)) == 2
    outputs = grbal.predict(state, episode.query, key=keys)
    assert outputs.shape == (2, 3, 3) and outputs.isfinite().all()
    torch.testing.assert_close(outputs, grbal.predict(state, episode.query, key=keys))


def test_random_trajectories_stay_where_they_are_told() -> None:
    """What drifts away says little of places that good trajectories visit."""
    tasks, keys = source().episodes(range(2)).support, Keys.default(2)
    still, wide, away = (
        leaf(learner(**how)._at_random(tasks, keys), "action")
        for how in ({"drift": 0.0, "random_log_std": -1.0}, {"drift": 0.0}, {})
    )
    torch.testing.assert_close(still, wide * torch.tensor(-1.0).exp())
    drift = away - wide  # one for each trajectory, on all its steps
    torch.testing.assert_close(drift, drift[:, :, :1].expand_as(drift))
    assert drift.abs().max() <= 1 and drift.abs().max() > 0.1


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"kept in 1 \.\. samples"):
        GrBAL(2, WORLD, kept=50)
