"""The field's baselines: their formulas, and that another future moves no prediction."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor

from quickstudy.data.bars import CLOSE
from quickstudy.data.tables import Tables
from quickstudy.data.volatility import FEATURES, WARM_UP
from quickstudy.data.windows import WindowTasks
from quickstudy.domains.finance.forecasts import GARCH, HAR, Said
from quickstudy.domains.finance.pooled import Majority, pooled
from quickstudy.domains.study import study
from quickstudy.errors import InputError
from quickstudy.evaluate import meta_test
from quickstudy.evaluate.metatest import answer, evaluating
from quickstudy.learners.acnp import ACNP
from quickstudy.learners.learner import AbstractLearner
from quickstudy.learners.maml import MAML
from quickstudy.learners.ridge import Ridge
from quickstudy.nets import MLP
from tests.data.test_shares import SHARES, SIZE, Made, altered

Builder = Callable[[WindowTasks, WindowTasks], AbstractLearner]


def _sk_ridge() -> Any:
    from sklearn.linear_model import Ridge as Model

    return Model(1.0)


def _seeded(build: Callable[[], AbstractLearner]) -> AbstractLearner:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return build()


def _garch(tasks: WindowTasks, training: WindowTasks) -> AbstractLearner:
    pytest.importorskip("arch")
    return GARCH(tasks.panel)


LEARNERS: dict[str, Builder] = {
    "last": lambda tasks, training: Said("week"),
    "ewma": lambda tasks, training: Said("ewma"),
    "har": lambda tasks, training: HAR(tasks.panel, tasks.gap),
    "garch": _garch,
    "ridge": lambda tasks, training: Ridge(penalty=10.0),
    "pooled": lambda tasks, training: pooled(_sk_ridge)(training.shape, training),
    "maml": lambda tasks, training: _seeded(lambda: MAML(MLP(len(FEATURES), (16,)), 1, "real", inner_lr=0.02)),
    "acnp": lambda tasks, training: _seeded(lambda: ACNP(outputs=1, in_features=len(FEATURES), width=16, heads=2)),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_another_future_moves_no_earlier_prediction(name: str) -> None:
    """All prices after a day of the test period are other ones: what was said on that day or before stays."""
    day = SHARES[0].dates[620]
    said = []
    for shares in (SHARES, altered(SHARES, day)):
        data = Made(shares)
        tasks = data.tasks("test", **SIZE)
        learner = LEARNERS[name](tasks, data.tasks("train", **SIZE))
        with evaluating(learner):
            said.append(answer(learner, tasks.episodes(range(24)))[..., 0])
    earlier = torch.from_numpy(tasks.asked(range(24)).date <= day)
    assert earlier.sum() > 20 and (~earlier).sum() > 20
    torch.testing.assert_close(said[0][earlier], said[1][earlier], rtol=0, atol=1e-6)
    assert not torch.allclose(said[0][~earlier], said[1][~earlier], atol=1e-3), "a change that is known is seen"


def test_har_is_least_squares_on_the_shares_past() -> None:
    tasks = Made(SHARES).tasks("test", **SIZE)
    episode, asked = tasks.episodes(range(3)), tasks.asked(range(3))
    assert isinstance(episode.support.side, Tensor)
    found = answer(HAR(tasks.panel, tasks.gap), episode)[..., 0].double().numpy()
    for t in range(3):
        end, panel = int(episode.support.side[t, 1]), tasks.panel
        past = np.arange(panel.starts[asked.share[t]] + WARM_UP, end + 1)
        line = np.linalg.lstsq(np.c_[panel.known[past, :3], np.ones(len(past))], panel.ahead[past], rcond=None)[0]
        asked_rows = end + panel.horizon + np.arange(5)
        expected = panel.known[asked_rows, :3] @ line[:3] + line[3] + tasks.gap - asked.level[t]
        assert found[t] == pytest.approx(expected, abs=1e-4)


def test_garch_is_archs() -> None:
    arch = pytest.importorskip("arch")
    tasks = Made(SHARES[:2]).tasks("test", **SIZE)
    episode, asked = tasks.episodes(range(2)), tasks.asked(range(2))
    found = answer(GARCH(tasks.panel), episode)[..., 0].double().numpy()
    assert isinstance(episode.support.side, Tensor)
    for t in range(2):
        share, end = tasks.panel.shares[asked.share[t]], int(episode.support.side[t, 1])
        start = int(tasks.panel.starts[asked.share[t]])
        days = end + tasks.horizon - start  # the first query
        returns = 100 * np.diff(np.log(share.bars[: days + 1, CLOSE]))
        past = returns[: end - start]
        fitted = arch.arch_model(past, mean="Zero", rescale=False).fit(disp="off", show_warning=False)
        whole = arch.arch_model(returns, mean="Zero", rescale=False).fix(fitted.params)
        variance = whole.forecast(horizon=5, reindex=False).variance.values[-1].mean()
        scale = tasks.panel.variance[start + 1 : end + 1].mean() / np.square(past).mean()
        assert found[t, 0] == pytest.approx(np.log(variance * scale) - asked.level[t], abs=2e-2)


def test_baselines_that_know_shares_refuse_other_tasks() -> None:
    tables = Tables(target="real").tasks("test", shot=5, query=5, seed=0)
    panel = Made(SHARES).panel
    with pytest.raises(InputError, match=r"HAR and GARCH are fitted to a share's whole past, which these tasks do not"):
        meta_test(HAR(panel, 0.0), tables, episodes=2)


def test_without_arch(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "arch", None)
    with pytest.raises(InputError, match=r"GARCH needs the package arch: pip install 'quickstudy\[finance\]'"):
        GARCH(Made(SHARES).panel)


def test_majority() -> None:
    tasks = Made(SHARES, "direction").tasks("test", way=2, **SIZE)
    episode = tasks.episodes(range(20))
    assert episode.support.y is not None and episode.query.y is not None
    commoner = (episode.support.y.double().mean(1) >= 0.5).long()
    assert torch.equal(answer(Majority(), episode).argmax(2), commoner[:, None].expand(-1, 5))
    result = meta_test(Majority(always=1), tasks, episodes=20)
    assert result.metric == "direction" and result.mean == pytest.approx(float(episode.query.y.double().mean()))


@pytest.mark.parametrize("name", ["finance", "finance-direction"])
def test_studies_on_made_up_shares(name: Literal["finance", "finance-direction"]) -> None:
    """Every baseline learns the tasks, and the report's parts are drawn."""
    from quickstudy.domains.study import Found

    pytest.importorskip("arch")
    found, target = study(name), "direction" if name.endswith("direction") else "volatility"
    data = Made(SHARES, target)  # type: ignore[arg-type]
    way: dict[str, Any] = {"way": 2} if target == "direction" else {}
    training, tasks = (data.tasks(role, **way, **SIZE) for role in ("train", "test"))
    rivals = {rival.name: rival.build(tasks.shape, training) for rival in found.rivals}
    for learner in rivals.values():
        assert np.isfinite(meta_test(learner, tasks, episodes=8).mean)
    sections = found.sections(Found(next(iter(rivals.values())), {"made": tasks}, rivals))
    assert sections and all(section.drawings for section in sections)
    assert not sections[0].rows or len(sections[0].rows) == len(rivals) + 1
