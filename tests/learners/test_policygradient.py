"""Policy gradients against enumeration, finite differences and plain loops."""

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.data.controltasks import ControlTasks
from quickstudy.data.environments import environment
from quickstudy.episode import Examples, Real
from quickstudy.errors import InputError
from quickstudy.keys import Key, Keys
from quickstudy.learners.mamlrl import MAMLRL, _MetaStep, divergence
from quickstudy.learners.parts.advantages import advantages, discounted, linear_baseline
from quickstudy.learners.parts.rollouts import collect, log_likelihood, noise, returns
from quickstudy.learners.parts.surrogates import Estimator, clipped, surrogate
from quickstudy.learners.parts.trustregion import TrustRegion, conjugate_gradient
from quickstudy.learners.reptilerl import ReptileRL
from quickstudy.nets.mlp import MLP

# A Markov decision process of two states, two actions and three steps, small enough to be enumerated.
REWARD = torch.tensor([[1.0, -0.5], [0.3, 2.0]], dtype=torch.float64)
STEPS = 3


def following(state: int, action: int) -> int:
    return state if action == 0 else 1 - state


def paths() -> Iterator[tuple[list[int], list[int]]]:
    """All (states, actions)."""
    for actions in itertools.product((0, 1), repeat=STEPS):
        states = [0]
        for action in actions[:-1]:
            states.append(following(states[-1], action))
        yield states, list(actions)


STATES = torch.tensor([s for s, _ in paths()])
ACTIONS = torch.tensor([a for _, a in paths()])


def log_probs(theta: Tensor) -> Tensor:
    """``[1, paths, steps]`` of a softmax policy, a row of logits a state."""
    return theta.log_softmax(1)[STATES, ACTIONS][None]


def expected(theta: Tensor) -> Tensor:
    """The exact return."""
    return (log_probs(theta).sum(2).exp() * REWARD[STATES, ACTIONS].sum(1)).sum()


def enumerated(theta: Tensor, now: Tensor, estimator: Estimator, baseline: float = 0.0) -> Tensor:
    """The surrogate over all paths, each counted by its probability ``now``."""
    old = log_probs(now).detach()
    gain = discounted(REWARD[STATES, ACTIONS][None], 1.0) - baseline * (1 + STATES[None])
    alive = torch.ones_like(gain, dtype=torch.bool)
    weight = old.sum(2).exp()
    return surrogate(log_probs(theta), old, gain, alive, estimator=estimator, weight=weight)[0]


THETA = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=torch.float64)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
@pytest.mark.parametrize("estimator", ["dice", "lvc"])
def test_the_gradient_is_that_of_the_expected_return(estimator: Estimator, baseline: float) -> None:
    theta = THETA.clone().requires_grad_()
    (mine,) = torch.autograd.grad(enumerated(theta, THETA, estimator, baseline), theta)
    (exact,) = torch.autograd.grad(expected(theta), theta)
    torch.testing.assert_close(mine, exact, rtol=0, atol=1e-12)


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_second_derivatives_are_unbiased_with_dice_and_not_with_lvc(baseline: float) -> None:
    def hessian(of: object) -> Tensor:
        found = torch.autograd.functional.hessian(of, THETA)  # type: ignore[no-untyped-call]
        assert isinstance(found, Tensor)
        return found

    exact = hessian(expected)
    dice = hessian(lambda theta: enumerated(theta, THETA, "dice", baseline))
    lvc = hessian(lambda theta: enumerated(theta, THETA, "lvc", baseline))
    torch.testing.assert_close(dice, exact, rtol=0, atol=1e-12)
    assert (lvc - exact).abs().max() > 1e-2


def test_the_meta_gradient_is_exact_with_dice() -> None:
    """Through one step of ascent: enumerated samples before and after, against the exact objective."""
    rate = 0.8

    def meta_gradient(inner: object) -> Tensor:
        theta = THETA.clone().requires_grad_()
        (slope,) = torch.autograd.grad(inner(theta), theta, create_graph=True)  # type: ignore[operator]
        adapted = theta + rate * slope
        after = enumerated(adapted, adapted.detach(), "lvc")
        (found,) = torch.autograd.grad(after, theta)
        return found

    theta = THETA.clone().requires_grad_()
    (slope,) = torch.autograd.grad(expected(theta), theta, create_graph=True)
    (exact,) = torch.autograd.grad(expected(theta + rate * slope), theta)
    dice = meta_gradient(lambda t: enumerated(t, THETA, "dice"))
    lvc = meta_gradient(lambda t: enumerated(t, THETA, "lvc"))
    torch.testing.assert_close(dice, exact, rtol=0, atol=1e-12)
    assert (lvc - exact).abs().max() > 1e-3


def test_clipping_stops_where_the_ratio_leaves_the_interval() -> None:
    log_prob = torch.tensor([[[0.05, 0.5, -0.5]]], dtype=torch.float64, requires_grad=True)
    advantage, alive = torch.tensor([[[1.0, 1.0, -2.0]]], dtype=torch.float64), torch.ones(1, 1, 3, dtype=torch.bool)
    value = clipped(log_prob, torch.zeros_like(log_prob), advantage, alive, clip=0.2)
    (slope,) = torch.autograd.grad(value.sum(), log_prob)
    assert slope[0, 0].tolist() == pytest.approx([np.exp(0.05) / 3, 0.0, 0.0])
    assert float(value.detach()) == pytest.approx((np.exp(0.05) + 1.2 - 2 * 0.8) / 3)


# --- advantages ------------------------------------------------------------------------------------------


def test_advantages_are_those_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    obs = torch.randn(2, 5, 6, 3, generator=generator, dtype=torch.float64)
    reward = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64)
    length = torch.tensor([[6, 3, 1, 6, 4], [2, 6, 5, 6, 6]])
    alive = torch.arange(6) < length[..., None]
    reward = reward.where(alive, torch.nan)  # what is behind the end must not matter
    mine = advantages(obs, reward, alive, discount=0.9, gae_lambda=0.8)
    for task in range(2):
        rows, targets = [], []
        for n in range(5):
            for t in range(int(length[task, n])):
                o = obs[task, n, t].numpy()
                rows.append([*o, *o**2, t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0])
                targets.append(sum(0.9 ** (k - t) * float(reward[task, n, k]) for k in range(t, int(length[task, n]))))
        f, y = np.array(rows), np.array(targets)
        weight = np.linalg.solve(f.T @ f + 1e-5 * np.eye(f.shape[1]), f.T @ y)
        values, raw, place = f @ weight, [], 0
        for n in range(5):
            end = int(length[task, n])
            v = [*values[place : place + end], 0.0]
            delta = [float(reward[task, n, t]) + 0.9 * v[t + 1] - v[t] for t in range(end)]
            raw += [sum(0.72 ** (k - t) * delta[k] for k in range(t, end)) for t in range(end)]
            place += end
        wanted = (np.array(raw) - np.mean(raw)) / np.std(raw)
        np.testing.assert_allclose(mine[task][alive[task]].numpy(), wanted, atol=1e-6)
    assert (mine[~alive] == 0).all()


def test_a_baseline_that_knows_everything_leaves_nothing() -> None:
    obs = torch.randn(1, 40, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    target = 2 * obs[..., 0] - obs[..., 1].square() + 3
    found = linear_baseline(obs, target, torch.ones(1, 40, 4, dtype=torch.bool))
    torch.testing.assert_close(found, target, rtol=0, atol=1e-3)


# --- noise and rollouts ----------------------------------------------------------------------------------


def test_noise_is_standard_normal_and_a_task_does_not_depend_on_those_beside_it() -> None:
    many = noise(Keys(Key.of(1), np.arange(50)), 10, 20, 4)
    assert abs(float(many.mean())) < 0.01 and abs(float(many.std()) - 1) < 0.01
    assert abs(float((many**4).mean()) - 3) < 0.15
    torch.testing.assert_close(noise(Keys(Key.of(1), np.array([7])), 10, 20, 4)[0], many[7], rtol=0, atol=0)


def world(horizon: int = 6) -> dict[str, object]:
    return {"name": "point-navigation", "horizon": horizon}


def tasks(n: int = 3, shot: int = 4, horizon: int = 6) -> Examples:
    return (
        ControlTasks(environment(world(horizon)), split="train", shot=shot, query=shot, seed=0)
        .episodes(range(n))
        .support
    )


def policy(**options: object) -> MAMLRL:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = MLP(2, (8,), activation="tanh")
        return MAMLRL(net, 2, world(), trajectories=4, **options).double()  # type: ignore[arg-type]


def test_a_trajectory_is_what_a_plain_loop_makes_of_it() -> None:
    learner, keys = policy(), Keys(Key.of(3), np.arange(3))
    asked = tasks()
    state = learner.begin(3)
    played = learner.play(state, asked, keys)
    draws = noise(keys, 4, 6, 2)
    assert isinstance(asked.x, dict) and isinstance(played.x, dict)
    for t, n in itertools.product(range(3), range(4)):
        at = torch.zeros(2)
        for step in range(6):
            mean, log_std = learner.policy.run(state.params, at.expand(3, 1, 2))
            action = mean[t, 0] + log_std[t, 0].exp() * draws[t, n, step]
            torch.testing.assert_close(played.x["obs"][t, n, step], at)
            torch.testing.assert_close(played.x["action"][t, n, step], action)
            at = at + 0.1 * action.clamp(-1, 1).float()
            reward = -(at - asked.x["task"][t, n]).norm()
            torch.testing.assert_close(played.x["reward"][t, n, step], reward)


def test_what_is_not_finite_is_refused_by_place() -> None:
    asked = tasks()
    assert isinstance(asked.x, dict)
    asked.x["task"][1] = torch.nan
    learner = policy()
    with pytest.raises(InputError, match=r"gave nan, .* as reward of task 1, trajectory 0, step 0"):
        learner.play(learner.begin(3), asked, Keys.default(3))
    good = learner.play(learner.begin(3), tasks(), Keys.default(3))
    assert isinstance(good.x, dict)
    good.x["reward"][2, 1, 3] = torch.inf
    with pytest.raises(InputError, match="reward of task 2, trajectory 1, step 3 is inf"):
        learner.adapt(good)


def test_another_environment_is_refused() -> None:
    learner = policy()
    wrong = Examples({"obs": torch.zeros(1, 2, 6, 5), "action": torch.zeros(1, 2, 6, 2), "reward": torch.zeros(1, 2, 6),
                      "alive": torch.ones(1, 2, 6, dtype=torch.bool)}, None, Real(2))  # fmt: skip
    with pytest.raises(InputError, match=r"sees 2 numbers and acts by 2: 'obs' must have the shape \[1, 2, 6, 2\]"):
        learner.adapt(wrong)
    with pytest.raises(InputError, match="sees 2 numbers, received observations of 3"):
        learner.predict(learner.begin(1), Examples(torch.zeros(1, 4, 3), None, Real(2)))
    with pytest.raises(InputError, match="there is no 'obs' among 'action'"):
        learner.adapt(Examples({"action": torch.zeros(1, 2, 6, 2)}, None, Real(2)))
    with pytest.raises(InputError, match="learns from 4 trajectories, and the support has 6"):
        learner.adapt(tasks(shot=6))


# --- the meta-step ------------------------------------------------------------------------------------------


def meta_step(learner: MAMLRL) -> _MetaStep:
    """Trajectories before and after one step."""
    state, keys = learner.begin(3), Keys.default(3)
    played = learner.play(state, tasks(), keys)
    tried = [learner.weigh(played)]
    state = learner.learn(state, played, keys)
    return _MetaStep(learner, tried, learner.weigh(learner.play(state, tasks(), keys.fold("query"))), state.params)


@pytest.mark.parametrize("estimator", ["dice", "lvc"])
def test_the_objective_has_the_derivative_of_finite_differences(estimator: Estimator) -> None:
    learner = policy(estimator=estimator, inner_lr=0.5)
    meta = meta_step(learner)
    theta = {name: p.detach().requires_grad_() for name, p in learner.policy.weights().items()}
    gain, far = meta.judge(theta)
    assert float(far.detach().abs().max()) < 1e-10  # where it stands nothing has moved
    slopes = torch.autograd.grad(gain.sum(), tuple(theta.values()))
    generator, eps = torch.Generator().manual_seed(2), 1e-5
    along = {name: torch.randn(p.shape, generator=generator, dtype=torch.float64) for name, p in theta.items()}
    ends = []
    for sign in (1, -1):
        moved = {name: p.detach() + sign * eps * along[name] for name, p in theta.items()}
        with torch.no_grad():
            ends.append(float(meta.judge(moved)[0].sum()))
    exact = sum(float((s * d).sum()) for s, d in zip(slopes, along.values(), strict=True))
    assert (ends[0] - ends[1]) / (2 * eps) == pytest.approx(exact, rel=1e-6)


def test_second_order_terms_are_there() -> None:
    """Through the step the meta-gradient is another than with the step held fixed."""
    learner = policy(inner_lr=0.5)
    meta = meta_step(learner)
    theta = {name: p.detach().requires_grad_() for name, p in learner.policy.weights().items()}
    whole = torch.autograd.grad(meta.judge(theta)[0].sum(), tuple(theta.values()))
    start = learner.policy.start(theta, 3)
    fixed = meta._judge({name: p + meta.by[name] for name, p in start.items()})[0]
    first = torch.autograd.grad(fixed.sum(), tuple(theta.values()))
    assert max(float((a - b).abs().max()) for a, b in zip(whole, first, strict=True)) > 1e-3


@pytest.mark.parametrize("metric", ["exact", "first-order"])
def test_a_trust_region_is_kept(metric: str) -> None:
    learner = policy(metric=metric, max_kl=0.003, inner_lr=0.5)
    meta = meta_step(learner)
    theta = {name: p.detach() for name, p in learner.policy.weights().items()}
    new, share = learner.region.step(theta, meta.judge, meta.moved)
    with torch.no_grad():
        before, after = meta.judge(theta)[0].mean(), meta.judge(new)
    assert share > 0 and float(after[0].mean()) > float(before)
    assert 0 < float(after[1].mean()) <= 0.003


def test_a_natural_gradient_is_that_of_linear_algebra() -> None:
    """Objective g·θ, divergence ½ θ'Fθ: the step is √(2δ / g'F⁻¹g) F⁻¹ g."""
    fisher = torch.tensor([[2.0, 0.4], [0.4, 1.0]], dtype=torch.float64)
    g = torch.tensor([1.0, -2.0], dtype=torch.float64)

    def judge(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return (g @ params["a"])[None], (0.5 * params["a"] @ fisher @ params["a"])[None]

    region = TrustRegion(max_kl=0.02, damping=0.0)
    start = {"a": torch.zeros(2, dtype=torch.float64)}
    new, share = region.step(start, judge, lambda params: judge(params)[1])
    direction = torch.linalg.solve(fisher, g)
    wanted = (2 * 0.02 / (g @ direction)).sqrt() * direction
    torch.testing.assert_close(new["a"] / share, wanted)
    assert share in (1.0, 0.7)  # the full step lies on the border, on either side of it
    torch.testing.assert_close(conjugate_gradient(lambda v: fisher @ v, g, 2), direction)


def test_a_step_that_does_not_help_is_not_made() -> None:
    def judge(params: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        a = params["a"]
        return (a - 1e6 * a.square()).sum()[None], (0.5 * a.square().sum())[None]

    start = {"a": torch.zeros(2, dtype=torch.float64)}
    new, share = TrustRegion(backtracks=3).step(start, judge, lambda params: judge(params)[1])
    assert share == 0 and (new["a"] == 0).all()


def test_the_divergence_is_that_of_torch() -> None:
    from torch.distributions import Normal, kl_divergence

    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 3, 4, 2, generator=generator, dtype=torch.float64) for _ in range(4)]
    alive = torch.ones(2, 3, 4, dtype=torch.bool)
    mine = divergence((parts[0], parts[1]), (parts[2], parts[3]), alive)
    theirs = kl_divergence(Normal(parts[0], parts[1].exp()), Normal(parts[2], parts[3].exp())).sum(3).mean((1, 2))
    torch.testing.assert_close(mine, theirs)
    likely = Normal(parts[0], parts[1].exp()).log_prob(parts[2]).sum(3)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(log_likelihood(parts[0], parts[1], parts[2]), likely)


@pytest.mark.parametrize("outer", ["trpo", "ppo"])
def test_the_gradient_of_the_meta_loss_is_the_step(outer: str) -> None:
    learner = policy(outer=outer)
    source = ControlTasks(environment(world()), split="train", shot=4, query=4, seed=0)
    before = {name: p.detach().clone() for name, p in learner.policy.weights().items()}
    found = learner.meta_loss(source.episodes(range(3)))
    found.loss.mean().backward()  # type: ignore[no-untyped-call]
    steps = {name: p.grad for name, p in learner.policy.named_parameters()}
    assert all(torch.equal(before[name], p) for name, p in learner.policy.weights().items())
    assert any(step is not None and float(step.abs().max()) > 1e-6 for step in steps.values())
    assert set(found.logs) >= {"return", "return_before"}


def test_reptile_moves_towards_where_the_steps_end() -> None:
    source = ControlTasks(environment(world()), split="train", shot=4, query=4, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        learner = ReptileRL(MLP(2, (8,)), 2, world(), trajectories=4, inner_lr=0.5)
    episode, keys = source.episodes(range(3)), Keys.default(3)
    learner.meta_loss(episode, key=keys).loss.mean().backward()  # type: ignore[no-untyped-call]
    state = learner.begin(3)
    for number, rows in enumerate((episode.support, episode.query)):
        state = learner.learn(state, learner.play(state, rows, keys.fold("support", number)), keys)
    for name, p in learner.policy.weights().items():
        assert p.grad is not None
        torch.testing.assert_close(p.grad, p.detach() - state.params[name].mean(0))


def test_adapting_goes_on_from_a_state() -> None:
    learner, keys = policy(), Keys.default(3)
    whole = learner.adapt(tasks(shot=8), key=keys)
    rows = tasks(shot=8)
    first = learner.adapt(rows.rows(slice(0, 4)), key=keys)
    second = learner.adapt(rows.rows(slice(4, 8)), state=first, key=keys)
    for name, p in whole.params.items():
        assert torch.equal(p, second.params[name])
    assert torch.equal(whole.taken, second.taken) and whole.taken.tolist() == [48.0] * 3
    outputs = learner.predict(whole, tasks(), key=keys)
    assert outputs.shape == (3, 4, 4)
    asked = collect(learner.world, lambda obs: learner.policy.run(whole.params, obs), tasks(), keys.fold("query"))
    torch.testing.assert_close(outputs[:, :, 2], returns(asked))


def test_learning_from_trajectories_that_others_made() -> None:
    """Without known log-probabilities they count as drawn by the policy itself."""
    learner = policy()
    played = learner.play(learner.begin(3), tasks(), Keys.default(3))
    assert isinstance(played.x, dict)
    bare = Examples({name: leaf for name, leaf in played.x.items() if name != "log_prob"}, None, played.target)
    mine, theirs = learner.adapt(played), learner.adapt(bare)
    for name, p in mine.params.items():
        torch.testing.assert_close(p, theirs.params[name])


def test_a_step_that_leads_nowhere_is_not_made() -> None:
    learner = policy(inner_lr=1e308)
    state = learner.adapt(tasks())
    assert all(p.isfinite().all() for p in state.params.values())


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"outer": "trop"}, "MAMLRL has no outer 'trop'. Use one of trpo, ppo, gradient"),
        ({"estimator": "dise"}, "MAMLRL has no estimator 'dise'"),
        ({"discount": 1.5}, "needs a discount in 0 .. 1"),
        ({"max_kl": 0.0}, "max_kl above 0"),
        ({"inner_lr": -1.0}, "cannot step backwards"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence.replace("..", r"\.\.")):
        policy(**options)


def test_steps_and_shot_have_to_fit() -> None:
    source = ControlTasks(environment(world()), split="train", shot=8, query=4, seed=0)
    with pytest.raises(InputError, match="makes 1 steps of 4 trajectories in training, which takes a shot of 4"):
        policy().meta_loss(source.episodes(range(2)))
