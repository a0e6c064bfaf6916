"""RL²: its memory against torch's own unit, and trials against what was recorded."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.environments import environment
from quickstudy.errors import InputError
from quickstudy.keys import Keys
from quickstudy.learners.parts.recurrentpolicy import RecurrentPolicy
from quickstudy.learners.parts.rollouts import leaf
from quickstudy.learners.rl2 import RL2

WORLD = {"name": "point-navigation", "horizon": 5}


def learner(**options: object) -> RL2:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RL2(2, WORLD, trajectories=3, hidden=8, **options)  # type: ignore[arg-type]


def source(shot: int = 3, query: int = 3) -> ControlTasks:
    return ControlTasks(environment(WORLD), split="train", shot=shot, query=query, seed=0)


def test_the_memory_is_torchs_gru() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mine, x, start = RecurrentPolicy(4, 6, 2), torch.randn(3, 7, 4), torch.randn(3, 6)
    theirs = nn.GRU(4, 6, batch_first=True)
    with torch.no_grad():
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(theirs, f"{name}_l0").copy_(getattr(mine, name))
    out, last = theirs(x, start[None])
    mean, _, memory = mine.run(mine.weights(), x, start, torch.ones(3, 7, dtype=torch.bool))
    torch.testing.assert_close(memory, last[0])
    torch.testing.assert_close(mean, mine.head(out))


def test_steps_that_were_not_made_are_not_remembered() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        policy, x = RecurrentPolicy(4, 6, 2), torch.randn(1, 7, 4)
    start = torch.zeros(1, 6)
    going = (torch.arange(7) < 4)[None]
    whole = policy.run(policy.weights(), x, start, going)[2]
    short = policy.run(policy.weights(), x[:, :4], start, going[:, :4])[2]
    torch.testing.assert_close(whole, short)


def test_what_was_recorded_is_what_the_sequence_says() -> None:
    """Acting step by step and reading whole trials afterwards are the same policy: the ratios begin at 1."""
    rl2 = learner(episodes=3)
    episode, keys = source(shot=6).episodes(range(2)), Keys.default(2)
    parts = [episode.support.rows(slice(0, 3)), episode.support.rows(slice(3, 6)), episode.query]
    trial = rl2._trial(parts, keys, 3)
    action, old = (torch.cat([leaf(part, name) for part in trial], 2) for name in ("action", "log_prob"))
    with torch.no_grad():
        again = rl2._log_prob(rl2.policy.weights(), trial, action)
    torch.testing.assert_close(again, old, atol=1e-5, rtol=1e-5)


def test_it_remembers_from_one_trajectory_to_the_next() -> None:
    """Another goal in the first trajectory changes what is done in the second, and nothing in the first's start."""
    rl2, keys = learner(), Keys.default(2)
    episode = source().episodes(range(2))
    state = rl2.adapt(episode.support, key=keys)
    elsewhere = replace(episode.support, x={**episode.support.x, "task": -leaf(episode.support, "task")})  # type: ignore[dict-item]
    other = rl2.adapt(elsewhere, key=keys)
    first, second = (leaf(rl2.play(s, episode.query, keys), "action") for s in (state, other))
    assert not torch.equal(first, second)
    assert state.taken.tolist() == [5.0, 5.0]  # one of the three trajectories offered
    assert len(rl2.stages(state)) == 2 and torch.equal(rl2.stages(state)[0].hidden, torch.zeros(2, 8))
    assert rl2.predict(state, episode.query, key=keys).shape == (2, 3, 3)


def test_a_meta_step_makes_good_actions_likelier() -> None:
    rl2, keys = learner(), Keys.default(2)
    episode = source().episodes(range(2))
    found = rl2.meta_loss(episode, key=keys)
    found.loss.mean().backward()  # type: ignore[no-untyped-call]
    assert max(float(p.grad.abs().max()) for p in rl2.parameters() if p.grad is not None) > 1e-4


def test_numbers_that_do_not_fit() -> None:
    with pytest.raises(InputError, match=r"needs used in 1 \.\. trajectories"):
        learner(used=4)
    with pytest.raises(InputError, match="takes a shot of 6, received 3"):
        learner(episodes=3).meta_loss(source().episodes(range(2)))
