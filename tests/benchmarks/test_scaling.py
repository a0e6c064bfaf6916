"""The model of what a meta-step costs: it finds what is there, says what it misses, and the page has its tables."""

from __future__ import annotations

import json
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as limits
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.scaling import __main__ as command
from benchmarks.scaling import models, outlook, tables
from benchmarks.scaling.divided import bytes_sent
from benchmarks.scaling.models import MEMORY, RANKS, TIME, TRAFFIC, Divided, Model, fit, foretold, left_out, typical
from benchmarks.scaling.sizes import CORNERS, LEARNERS, Sizes, settings
from quickstudy.data.big.computed import ComputedStore, noise
from quickstudy.data.classtasks import ClassTasks
from quickstudy.learners import ProtoNet
from quickstudy.nets import MLP, Conv4
from quickstudy.train import fit as train
from quickstudy.train import ranks as speaking

PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
STEPS = [*settings("MAML"), *CORNERS]
SHARED = [Divided(r, t, w, x) for r in (1, 2, 3, 4) for t in (4, 8) for w, x in ((10_000, 1.0), (200_000, 7.0))]
CASES: dict[str, tuple[Model, list[Any]]] = {
    "time": (TIME, STEPS),
    "memory": (MEMORY, STEPS),
    "ranks": (RANKS, SHARED),
    "traffic": (TRAFFIC, [one for one in SHARED if one.ranks > 1]),
}


@pytest.mark.parametrize("name", CASES)
@limits(max_examples=15, deadline=None)
@given(data=st.data())
def test_known_coefficients_are_found_again(name: str, data: st.DataObject) -> None:
    model, some = CASES[name]
    coefficient = st.floats(0.01, 100)
    true = np.array(data.draw(st.lists(coefficient, min_size=len(model.terms), max_size=len(model.terms))))
    measured = list(model.rows(some) @ true)
    np.testing.assert_allclose(fit(model, some, measured)(some), measured, rtol=1e-6)
    # Each term's part is what can be known: a coefficient whose term is next to nothing anywhere cannot.
    part = model.rows(some) * fit(model, some, measured).coefficients / np.array(measured)[:, None]
    np.testing.assert_allclose(part, model.rows(some) * true / np.array(measured)[:, None], atol=1e-5)
    assert typical(left_out(model, some, measured)) < 1e-4


def test_what_is_missed_is_as_large_as_the_noise_and_a_wrong_model_misses_more() -> None:
    random = np.random.default_rng(0)
    true = np.array([5.0, 0.5, 40.0, 20.0, 6.0])
    measured = TIME.rows(STEPS) @ true * (1 + 0.05 * random.standard_normal(len(STEPS)))
    assert 0.03 < typical(left_out(TIME, STEPS, list(measured))) < 0.12
    wrong = Model("ms", {"step": lambda s: 1.0, "task": lambda s: s.tasks})
    assert typical(left_out(wrong, STEPS, list(measured))) > 0.3
    near, far = STEPS[:-3], STEPS[-3:]
    assert typical(foretold(TIME, near, list(measured[:-3]), far, list(measured[-3:]))) < 0.15


def test_nothing_costs_less_than_nothing() -> None:
    falling = Model("ms", {"step": lambda n: 1.0, "task": lambda n: n})
    assert fit(falling, [1.0, 2.0, 3.0], [3.0, 2.0, 1.0]).coefficients.min() == 0
    assert len(left_out(falling, [1.0, 2.0], [1.0, 2.0])) == 0 and np.isnan(typical(np.array([])))


@pytest.mark.parametrize("measured", [[1.0], [1.0, 0.0], [1.0, float("nan")], [1.0, 2.0, 3.0]])
def test_what_cannot_be_fitted_is_refused(measured: list[float]) -> None:
    with pytest.raises(ValueError, match=r"Cannot fit 2 settings to \d numbers: expected two or more, all above 0"):
        fit(TIME, [Sizes(), Sizes(tasks=2)], measured)


def test_what_a_network_costs_by_its_sizes_is_what_torch_counts() -> None:
    net, sizes = Conv4(1, 28, filters=48).eval(), Sizes(filters=48)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        net(torch.zeros(1, 1, 28, 28))
    assert counter.get_total_flops() == sizes.operations
    assert sum(p.numel() for p in net.parameters() if p.dim() == 4) == sizes.weights


def test_tasks_of_a_rank_and_what_it_sends() -> None:
    assert [Divided(n, 8, 1000).mine for n in (1, 3, 8, 64)] == [8, 3, 1, 1]
    assert [Divided(n, 8, 1000).ring_bytes for n in (1, 2, 4)] == [0, 4000, 6000]
    assert [Sizes(tasks=5, at_once=2).portions, Sizes(tasks=5).portions, Sizes(tasks=2, at_once=9).together] == [
        3,
        1,
        2,
    ]


def test_bytes_are_those_that_the_kernel_has_sent() -> None:
    before = bytes_sent()
    if before is None:
        pytest.skip("this system does not say")
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as one:
        other, _ = server.accept()
        with other:
            one.sendall(b"x" * 4321)
            assert len(other.recv(5000)) > 0
            assert (bytes_sent() or 0) - before == 4321


class Counted(speaking.AbstractRanks):
    """Rank 0 of 2, whose peer says the same; counts what is said."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.said: list[str] = []

    def exchange(self, mine: Any) -> list[Any]:
        self.said.append("exchange")
        return [mine, mine]

    def any(self, mine: bool) -> bool:
        self.said.append("flag")
        return mine

    def add(self, mine: torch.Tensor) -> None:
        self.said.append("gradient")

    def asked_to_stop(self, mine: bool) -> bool:
        return self.any(mine)


def test_ranks_say_as_much_in_a_step_as_the_outlook_counts() -> None:
    store = ComputedStore(8, 4, noise((8, 8)), name="noise")
    source = ClassTasks(store, range(8), data="noise", split="train", way=2, shot=1, query=1, seed=0)

    def said(steps: int) -> list[str]:
        ranks = Counted()
        train(ProtoNet(MLP(64)), source, steps=steps, tasks_per_step=2, ranks=ranks)
        return ranks.said

    more = said(5)[len(said(3)) :]
    assert sorted(more) == sorted(2 * (["exchange"] * outlook.EXCHANGES + ["flag"] * outlook.FLAGS + ["gradient"]))


WORK = outlook.Work("made up", operations=1e12, passes=6, weights=1e7, read=1e6)
TYPICAL = {name: one.typical for name, one in outlook.ASSUMPTIONS.items()}


def test_the_outlook_keeps_its_books() -> None:
    for ranks in (1, 2, 7, 64):
        alone, mine = (sum(outlook.step(WORK, 32, n, TYPICAL).values()) for n in (1, ranks))
        away = outlook.lost(WORK, lambda n: 32, ranks, TYPICAL)
        assert sum(away.values()) == pytest.approx(mine - alone / ranks)
        taken, low, high = outlook.efficiency(WORK, lambda n: 32, ranks, outlook.ASSUMPTIONS)
        assert low <= taken <= high <= 1 + 1e-12 and taken == pytest.approx(alone / (ranks * mine))
    assert outlook.efficiency(WORK, lambda n: 32, 1, outlook.ASSUMPTIONS) == (1.0, 1.0, 1.0)
    assert outlook.efficiency(WORK, lambda n: 32, 64, outlook.ASSUMPTIONS)[2] <= 0.5, "half of the ranks have no task"


@pytest.mark.parametrize("name", ["share", "bandwidth", "storage", "launch", "hop", "spread"])
def test_the_better_end_of_each_assumption_takes_no_longer(name: str) -> None:
    one = outlook.ASSUMPTIONS[name]
    work = replace(WORK, read=1e8) if name == "storage" else WORK  # what is read ahead takes no time, unless it is much
    worse, better = (
        sum(outlook.step(work, 256, 64, {**TYPICAL, name: value}).values()) for value in (one.low, one.high)
    )
    assert better < worse


def test_the_page_has_the_tables_of_what_was_measured() -> None:
    page = PAGE.read_text(encoding="utf-8")
    found = command.read(command.RESULT)
    for name, lines in command.parts(found, outlook.ASSUMPTIONS).items():
        page = tables.replaced(page, name, lines)
    assert page == PAGE.read_text(encoding="utf-8"), (
        f"run: python -m benchmarks.scaling --read {command.RESULT.relative_to(command.ROOT)} --page docs/scaling.md"
    )
    assert {point["learner"] for point in found["points"]} == set(LEARNERS)


def test_a_page_without_the_place_is_refused() -> None:
    with pytest.raises(ValueError, match="Cannot write 'measured' into the page: it has no lines <!-- measured -->"):
        tables.replaced("nothing", "measured", [])


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--read", "nowhere.json"], "Cannot read nowhere.json"),
        (["--read", "{other}"], "has no 'busy'"),
        (["--read", "{result}", "--bandwidth", "0"], "--bandwidth: expected a number above 0"),
        (["--read", "{result}", "--hop", "-1"], "--hop: expected a number above 0"),
        (["--read", "{result}", "--share", "nan"], "--share: expected a number above 0"),
        (["--repeats", "0"], "--repeats: expected a whole number of at least 1"),
    ],
)
def test_bad_input(asked: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "other.json").write_text("{}")
    names = {"other": tmp_path / "other.json", "result": command.RESULT}
    with pytest.raises(SystemExit):
        command.main([each.format(**names) for each in asked])
    assert said in capsys.readouterr().err


def test_an_assumption_that_is_given_has_no_ends(capsys: pytest.CaptureFixture[str]) -> None:
    given = command.arguments().parse_args(["--bandwidth", "1e9", "--spread", "0"])
    found = command.assumed(given)
    assert (found["bandwidth"].low, found["bandwidth"].high, found["spread"].typical) == (1e9, 1e9, 0)
    assert found["hop"] is outlook.ASSUMPTIONS["hop"] and models.typical is typical


@pytest.mark.slow
def test_it_measures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command.main(["--quick", "--repeats", "1", "--out", str(tmp_path / "out.json")])
    found = json.loads((tmp_path / "out.json").read_text())
    assert {point["ranks"] for point in found["ranks"]} == {1, 2}
    for point in found["ranks"]:
        ring = Divided(point["ranks"], 4, round(point["weights"])).ring_bytes
        assert point["sent"] is None or ring <= point["sent"] <= ring + 10_000
    assert "EXTRAPOLATED" in capsys.readouterr().out
