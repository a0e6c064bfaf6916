"""Tasks divided over ranks give the run of one rank, for every learner; here ranks are threads that take turns."""

from __future__ import annotations

import errno
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typing_extensions import override

from quickstudy.episode import Episode, Examples
from quickstudy.errors import InputError, NonFiniteLoss, QuickstudyError, RunError, StorageError
from quickstudy.evaluate import meta_test
from quickstudy.files import storage_error
from quickstudy.keys import Keys
from quickstudy.learners import CNP, AbstractLearner, ProtoNet
from quickstudy.learners.learner import MetaLoss, Traits
from quickstudy.train import Checkpointing, History, Interrupted, Silent, StepEvent, Validation, fit
from quickstudy.train.ranks import AbstractRanks, OneRank, PeerLost, alike, block, portable
from quickstudy.train.ranks_state import check_same, goes_from_task_to_task
from tests.table import ROWS, Row, make, mlp
from tests.train.inturn import InTurn, side_by_side, values
from tests.train.small import Small, same, weights
from tests.train.test_phases import TASKS, meta_baseline, pretraining

ROW = {row.name: row for row in ROWS}
TRAINED = [row for row in ROWS if make(row).traits.trainable and "episodes" in make(row).traits.phases]
STEPS = 20


class Uneven(Small):
    """Tasks whose labels, too, depend on the task's number."""

    def episodes(self, indices: Any) -> Episode:
        episode = super().episodes(indices)
        if self.target != "classes":
            return episode
        turns = episode.indices % 3

        def turned(part: Examples) -> Examples:
            assert part.y is not None
            return replace(part, y=(part.y + turns[:, None]) % 3)

        return replace(episode, support=turned(episode.support), query=turned(episode.query))


def run(row: Row, ranks: AbstractRanks | None = None, steps: int = STEPS, **more: Any) -> tuple[Any, History]:
    """The state after training, and its curves."""
    learner, history = make(row), History()
    # Not Adam: where a gradient is zero but for rounding (a bias before a batch norm) it makes whole steps of noise.
    options: dict[str, Any] = {
        "tasks_per_step": 5,
        "optimizer": "sgd",
        "lr": 0.002,
        "momentum": 0.5,
        "callbacks": [history],
    } | more
    fit(learner, Uneven(row.target), steps=steps, ranks=ranks, **options)
    return weights(learner), history


def assert_same_run(divided: list[tuple[Any, History]], whole: tuple[Any, History], tolerance: float = 1e-10) -> None:
    for state, _ in divided:
        assert state.keys() == whole[0].keys()
        for name, value in whole[0].items():
            torch.testing.assert_close(state[name], value, rtol=tolerance, atol=tolerance, msg=name)
    curves = divided[0][1].steps
    assert len(curves) == len(whole[1].steps)
    for mine, theirs in zip(curves, whole[1].steps, strict=True):
        assert mine.keys() == theirs.keys()
        for name, value in theirs.items():  # logs are float32
            assert mine[name] == (value if isinstance(value, str) else pytest.approx(value, rel=1e-5, abs=1e-6)), name
    assert all(not history.steps for _, history in divided[1:])


# A row of each family, and each that carries something from task to task.
QUICK = [
    "protonet-batchnorm",
    "maml-norms",
    "maml++",
    "meta-sgd",
    "reptile",
    "reptile-published",
    "matching-fce",
    "r2d2-batchnorm",
    "relation",
    "cnp-batchnorm",
    "in-context",
    "mann-batchnorm",
    "meta-baseline-batchnorm",
    "simple-cnaps",
]


@pytest.mark.parametrize("name", QUICK)
def test_two_ranks_give_the_run_of_one(name: str) -> None:
    """Five tasks a step: three and two."""
    whole = run(ROW[name])
    assert_same_run(values(side_by_side(lambda ranks: run(ROW[name], ranks), 2)), whole)


# Newton's steps end at a tolerance, so that with another rounding there may be one more or less, in one process too.
# These are compared with one process that computes the same portions together.
STOPS_AT_A_TOLERANCE = ("imaml-newton",)


@pytest.mark.slow
@pytest.mark.parametrize("row", TRAINED, ids=lambda row: row.name)
@pytest.mark.parametrize(("size", "portion"), [(2, 3), (3, 2)])
def test_ranks_give_the_run_of_one(row: Row, size: int, portion: int) -> None:
    """Five tasks a step: three and two; two, two and one."""
    whole = run(row, tasks_at_once=portion if row.name in STOPS_AT_A_TOLERANCE else None)
    assert_same_run(values(side_by_side(lambda ranks: run(row, ranks), size)), whole)


@pytest.mark.parametrize(
    ("size", "more"),
    [
        (7, {}),
        (2, {"tasks_per_step": 1}),
        (3, {"tasks_at_once": 1}),
        (2, {"tasks_at_once": 2}),
        (2, {"optimizer": "adam", "momentum": 0.0}),
    ],
    ids=["more ranks than tasks", "one task", "task by task", "portions", "adam"],
)
def test_however_tasks_are_divided(size: int, more: dict[str, Any]) -> None:
    row = ROW["maml-norms"]
    more = {"steps": 6} | more
    whole = run(row, **more)
    assert_same_run(values(side_by_side(lambda ranks: run(row, ranks, **more), size)), whole)


def test_each_rank_draws_its_own_tasks_alone() -> None:
    def drawn(ranks: AbstractRanks) -> list[int]:
        source = Small()
        fit(make(ROW["protonet"]), source, steps=2, tasks_per_step=5, ranks=ranks)
        return source.drawn

    assert values(side_by_side(drawn, 2)) == [[0, 1, 2, 5, 6, 7], [3, 4, 8, 9]]


@pytest.mark.parametrize(("n", "size"), [(5, 2), (32, 3), (1, 4), (0, 2), (6, 6)])
def test_blocks_are_all_tasks_in_order(n: int, size: int) -> None:
    blocks = [block(n, rank, size) for rank in range(size)]
    assert [task for one in blocks for task in one] == list(range(n))
    assert max(map(len, blocks)) - min(map(len, blocks)) <= 1


class TorchNorm(nn.Sequential):
    """A network with torch's own batch norm, which goes from task to task."""

    out_features = 6

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.BatchNorm1d(6, momentum=0.3), nn.Tanh())


def test_layers_of_others_are_computed_in_turn() -> None:
    row = Row("torch-batchnorm", lambda: ProtoNet(TorchNorm()))
    assert goes_from_task_to_task(make(row).train())
    assert not goes_from_task_to_task(make(ROW["protonet-batchnorm"]).train())
    whole = run(row)
    assert float(whole[0]["embed.net.1.num_batches_tracked"]) == 5 * STEPS
    assert_same_run(values(side_by_side(lambda ranks: run(row, ranks), 2)), whole)


class Frozen(nn.Module):
    """Only some tasks reach the second weight; the first of them is task 4."""

    out_features = 3

    def __init__(self) -> None:
        super().__init__()
        self.always, self.seldom = nn.Linear(4, 3), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        always: Tensor = self.always(x)
        return always


class Seldom(AbstractLearner):
    """A learner whose weights do not get a gradient from each task."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Frozen()

    @property
    @override
    def traits(self) -> Traits:
        return Traits()

    @override
    def adapt(self, support: Examples, *, state: Any = None, key: Keys | None = None) -> Tensor:
        raise NotImplementedError

    @override
    def predict(self, state: Any, query: Examples, *, key: Keys | None = None) -> Tensor:
        raise NotImplementedError

    @override
    def meta_loss(self, episode: Episode, *, key: Keys | None = None) -> MetaLoss:
        x = episode.query.x
        assert isinstance(x, Tensor)
        loss = self.net.always(x).square().mean((1, 2))
        if bool((episode.indices == 4).any()):
            loss = loss + self.net.seldom(x).square().mean((1, 2))
        return MetaLoss(loss)


def test_a_weight_that_no_task_reaches_is_left_alone_and_one_that_a_single_rank_reaches_is_not() -> None:
    """AdamW shrinks each weight that has a gradient, be it 0, and none that has none."""
    row = Row("seldom", Seldom)
    for steps in (1, 3):  # task 4 is of the first step
        options: dict[str, Any] = {"tasks_at_once": 1, "optimizer": "adamw", "momentum": 0.0, "weight_decay": 0.5}
        whole = run(row, steps=steps, **options)
        divided = values(side_by_side(lambda ranks: run(row, ranks, steps=steps, **options), 2))  # noqa: B023
        assert_same_run(divided, whole)


# --- what fails on one rank --------------------------------------------------------------------------


def failures(work: Any, size: int = 2) -> list[BaseException]:
    found = side_by_side(work, size)
    assert all(isinstance(error, BaseException) for error in found), found
    return [error for error in found if isinstance(error, BaseException)]


def test_a_loss_that_is_no_number_on_one_rank_ends_all_and_names_the_task() -> None:
    learners: dict[int, AbstractLearner] = {}
    row = Row("cnp-real-batchnorm", lambda: CNP(mlp("batch"), 2, "real", width=6, activation="tanh"), target="real")

    class Poison(Small):
        """Task 13 (step 3, the second rank's) has labels so large that its loss overflows."""

        @override
        def episodes(self, indices: Any) -> Episode:
            episode = super().episodes(indices)
            for number, index in enumerate(episode.indices.tolist()):
                if index == 13:
                    assert episode.query.y is not None
                    episode.query.y[number] *= 1e200
            return episode

    def work(ranks: AbstractRanks) -> None:
        learners[ranks.rank] = make(row)
        fit(learners[ranks.rank], Poison("real"), steps=5, tasks_per_step=5, ranks=ranks)

    found = failures(work)
    assert [type(error) for error in found] == [NonFiniteLoss] * 2
    assert {str(error).split(" became ")[0] for error in found} == {"The loss of task 13"}
    before = make(row)
    fit(before, Small("real"), steps=2, tasks_per_step=5)
    for learner in learners.values():  # buffers too, though the first rank had absorbed its part
        for name, value in weights(learner).items():
            torch.testing.assert_close(value, before.state_dict()[name], rtol=1e-10, atol=1e-10)


class Breaks(Silent):
    @override
    def step(self, event: StepEvent) -> None:
        if event.step == 2:
            raise ValueError("of the callback")


def test_an_error_of_a_callback_ends_all_ranks() -> None:
    def work(ranks: AbstractRanks) -> None:
        fit(make(ROW["protonet"]), Small(), steps=5, tasks_per_step=5, callbacks=[Breaks()], ranks=ranks)

    assert [str(error) for error in failures(work)] == ["of the callback"] * 2


def test_a_full_disk_ends_all_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[Path]()

    def full(path: Path, *_: object) -> None:
        written.append(path)
        raise storage_error(path, OSError(errno.ENOSPC, "No space left on device"))

    monkeypatch.setattr("quickstudy.train.saving.save_checkpoint", full)

    def work(ranks: AbstractRanks) -> None:
        checkpoints = Checkpointing(tmp_path / str(ranks.rank), every=2)
        fit(make(ROW["protonet"]), Small(), steps=5, tasks_per_step=5, checkpoints=checkpoints, ranks=ranks)

    found = failures(work)
    assert all(isinstance(error, StorageError) and "No space left" in str(error) for error in found)
    assert written == [tmp_path / "0" / "last"]  # rank 0 alone writes
    assert all(str(written[0]) in str(error) for error in found)


def test_a_learner_that_cannot_be_trained_is_refused_on_all_ranks() -> None:
    def work(ranks: AbstractRanks) -> None:
        fit(make(ROW["knn"]), Small(), steps=5, ranks=ranks)

    found = failures(work)
    assert all(isinstance(error, InputError) and "nothing to meta-train" in str(error) for error in found)


def test_weights_that_come_apart_are_noticed(tmp_path: Path) -> None:
    class Drifts(Silent):
        on_every_rank = True

        def __init__(self, learner: AbstractLearner, rank: int) -> None:
            self.learner, self.rank = learner, rank

        @override
        def step(self, event: StepEvent) -> None:
            with torch.no_grad():
                next(self.learner.parameters())[0, 0] += 1e-14 * self.rank

    def work(ranks: AbstractRanks) -> None:
        learner = make(ROW["protonet"])
        checkpoints = Checkpointing(tmp_path, every=2)
        fit(
            learner, Small(), steps=5, tasks_per_step=5, checkpoints=checkpoints, ranks=ranks,
            callbacks=[Drifts(learner, ranks.rank)],
        )  # fmt: skip

    found = failures(work)
    assert all("have come apart: their weights of ProtoNet" in str(error) for error in found)
    assert not (tmp_path / "last").exists()


def test_a_rank_that_is_gone_is_not_waited_for() -> None:
    def work(ranks: AbstractRanks) -> None:
        if ranks.rank == 1:
            raise SystemExit
        ranks.exchange(0)

    assert [type(error) for error in failures(work)] == [PeerLost, SystemExit]


def test_what_torch_said_of_a_lost_rank_is_one_line_after_our_own_words() -> None:
    own = "Nothing can be exchanged with the other ranks, of which one may be gone."
    assert str(PeerLost()) == own
    lost: PeerLost = pickle.loads(
        pickle.dumps(PeerLost("[pair.cc:553] Connection closed by peer\n" + "at frame\n" * 9))
    )
    assert str(lost) == f"{own} torch said: [pair.cc:553] Connection closed by peer."
    assert len(PeerLost("word " * 1000).said) < 220 and PeerLost("word " * 1000).said.endswith(" ....")


class Odd(Exception):
    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"{a} and {b}")


def test_errors_are_sent_as_they_are_or_in_words() -> None:
    def raised(error: Exception) -> BaseException:
        try:
            raise error
        except Exception as caught:
            return portable(caught)

    same_kind = raised(NonFiniteLoss("why"))
    assert isinstance(same_kind, NonFiniteLoss) and str(same_kind) == "why"
    assert "in raised" in same_kind.__notes__[0]
    in_words = raised(Odd(1, 2))
    assert type(in_words) is RunError and str(in_words) == "Odd: 1 and 2."


def test_the_error_of_the_first_rank_that_has_one_is_everyones() -> None:
    def work(ranks: AbstractRanks) -> None:
        with alike(ranks):
            if ranks.rank:
                raise ValueError(f"of rank {ranks.rank}")

    assert [str(error) for error in failures(work, 3)] == ["of rank 1"] * 3
    with pytest.raises(ValueError, match="alone"), alike(OneRank()):
        raise ValueError("alone")


# --- stopping, going on, measuring -------------------------------------------------------------------


class StopAt(Silent):
    """One rank hears that all are to stop."""

    on_every_rank = True

    def __init__(self, ranks: InTurn, step: int) -> None:
        self.ranks, self.at = ranks, step

    @override
    def step(self, event: StepEvent) -> None:
        self.ranks.stop = self.ranks.rank == 0 and event.step == self.at


def test_ranks_stop_after_the_same_step_and_go_on_bit_for_bit(tmp_path: Path) -> None:
    def train(ranks: InTurn, folder: Path, stop: int = -1) -> dict[str, Tensor]:
        learner = make(ROW["protonet-batchnorm"])
        fit(
            learner, Small(), steps=9, tasks_per_step=5, checkpoints=Checkpointing(folder, every=4), resume=True,
            ranks=ranks, callbacks=[StopAt(ranks, stop)],
        )  # fmt: skip
        return weights(learner)

    whole = values(side_by_side(lambda ranks: train(ranks, tmp_path / "whole"), 2))
    stopped = failures(lambda ranks: train(ranks, tmp_path / "parts", 6))
    assert [(type(error), str(error)) for error in stopped] == [(Interrupted, "Stopped after step 6 of 9.")] * 2
    parts = values(side_by_side(lambda ranks: train(ranks, tmp_path / "parts"), 2))
    assert all(same(state, whole[0]) for state in [*whole, *parts])


def test_ranks_begin_with_the_weights_of_the_first() -> None:
    def work(ranks: AbstractRanks) -> dict[str, Tensor]:
        learner = make(ROW["protonet"], seed=ranks.rank)
        fit(learner, Small(), steps=1, tasks_per_step=2, ranks=ranks)
        check_same(ranks, learner)
        return weights(learner)

    first, second = values(side_by_side(work, 2))
    alone = make(ROW["protonet"], seed=0)
    fit(alone, Small(), steps=1, tasks_per_step=2)
    for name, value in weights(alone).items():
        torch.testing.assert_close(first[name], value, rtol=1e-10, atol=1e-10)
    assert same(first, second)


@pytest.mark.parametrize(("episodes", "size"), [(70, 2), (70, 3), (10, 2)])
def test_a_divided_test_is_the_same_to_the_last_bit(episodes: int, size: int) -> None:
    told: list[tuple[int, int]] = []

    def test(ranks: AbstractRanks | None) -> Any:
        progress = (lambda *news: told.append(news)) if ranks is not None and ranks.rank == 0 else None
        source = Small("classes")
        found = meta_test(make(ROW["maml"]), source, episodes=episodes, division=ranks, progress=progress)
        assert ranks is None or size == 2 or len(source.drawn) < episodes
        return replace(found, seconds=0.0)

    alone = test(None)
    assert all(found == alone for found in values(side_by_side(test, size)))
    assert told[-1] == (episodes, episodes)


def test_an_error_in_a_divided_test_is_everyones() -> None:
    def work(ranks: AbstractRanks) -> None:
        meta_test(make(ROW["maml"]), Small(poison=40), episodes=48, division=ranks)

    found = failures(work)
    assert all(isinstance(error, QuickstudyError) and "found nan" in str(error).lower() for error in found), found


def test_validations_are_told_by_the_first_rank_alone() -> None:
    histories = []

    def work(ranks: AbstractRanks) -> None:
        history = History()
        histories.append(history)

        def validate(learner: AbstractLearner) -> Validation:
            found = meta_test(learner, Small(), episodes=40, division=ranks)
            return Validation(found.metric, found.mean, found.ci95)

        fit(
            make(ROW["maml"]), Small(), steps=4, tasks_per_step=3, validate=validate, validate_every=2,
            callbacks=[history], ranks=ranks,
        )  # fmt: skip

    values(side_by_side(work, 2))
    assert sorted(len(history.validations) for history in histories) == [0, 2]


def test_batches_are_computed_whole_by_every_rank() -> None:
    """The learner's batch norm couples rows: half a batch each would be another gradient. Then tasks are divided."""

    def train(ranks: AbstractRanks | None = None) -> dict[str, Tensor]:
        learner = meta_baseline()
        for layer in learner.modules():
            if isinstance(layer, nn.Dropout):  # draws once for each portion of tasks
                layer.p = 0.0
        options: dict[str, Any] = {"optimizer": "sgd", "lr": 0.01, "tasks_per_step": 3, "pretrain": pretraining()}
        fit(learner, TASKS, steps=6, ranks=ranks, **options)
        return weights(learner)

    whole = train()
    for state in values(side_by_side(train, 2)):
        for name, value in whole.items():
            torch.testing.assert_close(state[name], value, rtol=1e-10, atol=1e-10, msg=name)
