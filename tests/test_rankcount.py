"""Over how many ranks a run is divided, and why."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.functional import conv2d

from quickstudy import rankcount
from quickstudy.errors import InputError
from quickstudy.learners import ProtoNet
from quickstudy.nets import MLP
from quickstudy.rankcount import RankCount, ranks_to_test, ranks_to_train, threads_of_a_rank, training_work
from quickstudy.recipes import Built, build, load_recipe
from quickstudy.running import device_of
from tests.train.inturn import InTurn, Table

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankcount, "_cores", lambda: 2)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def built(recipe: str = "glyphs-maml-fast", **overrides: Any) -> Built:
    return build(
        load_recipe(recipe, {key.replace("__", ".").replace("_", "-"): value for key, value in overrides.items()})
    )


def auto(of: Built) -> RankCount:
    return ranks_to_train("auto", of, CPU, None)


def test_convolutions_are_divided_and_small_steps_are_not() -> None:
    found = auto(built())
    assert found.number == 2 and str(found).startswith("ranks: 2 (") and "2 cores" in found.why
    assert auto(built("sinusoid-maml")).why.startswith("steps too small to divide")


def test_what_is_over_soon_is_not_divided() -> None:
    assert auto(built(train__steps=10)).why.startswith("too little in all to pay for starting processes")


def test_no_more_ranks_than_tasks_or_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rankcount, "_cores", lambda: 64)
    assert auto(built()).number == 8
    assert auto(built(train__tasks_per_step=1)).why.startswith("nothing to divide")
    monkeypatch.setattr(rankcount, "_cores", lambda: 3)
    assert auto(built()).number == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert auto(built()).number == 1


@pytest.mark.parametrize(
    ("overrides", "why"),
    [
        ({"learner.name": "baseline", "train.tasks-per-step": 1, "episodes.train.way": 5}, "are not divided"),
        ({"learner.name": "reptile", "learner.moments": "carried", "net.norm": "transductive"}, "would take turns"),
        ({"train.steps": 0, "train.validate-every": 0}, "nothing to train"),
    ],
)
def test_what_cannot_be_divided(overrides: dict[str, Any], why: str) -> None:
    found = auto(build(load_recipe("glyphs-maml-fast", overrides)))
    assert found.number == 1 and why in found.why


def test_a_run_that_goes_on_has_as_many_as_before() -> None:
    of = built("sinusoid-maml")
    unsaid: list[Any] = [None, "auto"]
    for asked in unsaid:
        assert ranks_to_train(asked, of, CPU, 3) == RankCount(3, "as many as before")
    assert ranks_to_train(2, of, CPU, 3) == RankCount(2, "as asked for")
    assert ranks_to_train(None, of, CPU, None).number == 1


def test_ranks_without_a_task_are_counted() -> None:
    of = built(train__tasks_per_step=2)
    assert ranks_to_train(2, of, CPU, None).why == "as asked for"
    assert ranks_to_train(3, of, CPU, None).why == "as asked for; a step has 2 tasks, so 1 of them has none"
    single = built(train__tasks_per_step=1)
    assert ranks_to_train(1, single, CPU, None).why == "as asked for"
    assert ranks_to_train(3, single, CPU, None).why == "as asked for; a step has 1 task, so 2 of them have none"


def test_the_count_is_that_of_the_arithmetic() -> None:
    a, b = torch.ones(3, 5, requires_grad=True), torch.ones(5, 7, requires_grad=True)
    forwards = 2 * 3 * 5 * 7
    assert rankcount._operations(lambda: a @ b) == forwards
    assert rankcount._operations(lambda: torch.autograd.grad((a @ b).sum(), (a, b))) == 3 * forwards
    x, w = torch.ones(2, 3, 8, 8), torch.ones(4, 3, 3, 3)
    assert rankcount._operations(lambda: conv2d(x, w, padding=1)) == 2 * 2 * 4 * 8 * 8 * 3 * 9


def test_the_count_of_a_run_knows_no_clock_and_grows_with_its_inner_steps() -> None:
    works = [training_work(built(learner__inner_steps=steps)) for steps in (1, 1, 2, 3)]
    assert works[0] == works[1]
    assert works[2] - works[1] == pytest.approx(works[3] - works[2], rel=0.05)
    assert works[2] > 1.2 * works[1]


def test_meta_tests_are_divided_where_it_pays() -> None:
    of = built()
    assert of.validation is not None
    few, many = (ranks_to_test("auto", of.learner, of.validation, n, CPU) for n in (10, 100_000))
    assert (few.number, many.number) == (1, 2)
    assert ranks_to_test(None, of.learner, of.validation, 10, CPU).number == 1
    assert ranks_to_test(4, of.learner, of.validation, 10, CPU).number == 4


def test_what_cannot_be_counted_is_not_divided() -> None:
    of = built()
    assert of.validation is not None
    broken = ProtoNet(MLP(3, (4,)))  # for other inputs
    assert ranks_to_test("auto", broken, of.validation, 100_000, CPU).number == 1


@pytest.mark.parametrize(
    ("asked", "device", "said"),
    [
        (0, "cpu", r"ranks must be a whole number of at least 1, or 'auto', received 0\."),
        (True, "cpu", r"received True\."),
        ("many", "cpu", r"received 'many'\."),
        (17, "cpu", r"Cannot divide the work over 17 ranks: .* may use 2 cores\. Use at most 16, or 'auto'\."),
        (2, "meta", r"Cannot divide the work over 2 ranks on meta: only on 'cpu' and 'cuda'\."),
        (2, "cuda:1", r"Each of 2 ranks has a GPU of its own, received 'cuda:1'\. Say 'cuda'\."),
        (2, "cuda", r"Cannot divide the work over 2 ranks on 1 GPU: each rank has one of its own\. Use at most 1\."),
    ],
)
def test_numbers_that_cannot_be_had(asked: Any, device: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr("quickstudy.rankcount._cores", lambda: 2)
    of = built("sinusoid-maml")
    with pytest.raises(InputError, match=said):
        ranks_to_train(asked, of, torch.device(device), None)


def test_gpus_are_divided_only_where_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert ranks_to_train("auto", built(), torch.device("cuda"), None).number == 1
    assert ranks_to_train(4, built(), torch.device("cuda"), None).number == 4


def test_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert threads_of_a_rank(2) == 3
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(rankcount, "_cores", lambda: 8)
    assert [threads_of_a_rank(n) for n in (1, 2, 3, 16)] == [8, 4, 2, 1]


def test_each_rank_has_a_gpu_of_its_own() -> None:
    for rank in range(3):
        there = device_of(InTurn(Table(3), rank), "cuda")
        assert (there.type, there.index) == ("cuda", rank)
        assert device_of(InTurn(Table(3), rank), "cpu") == CPU
