"""The thread that answers: who waits together is answered together, and nobody pays for another's question."""

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from quickstudy.estimators.together import Said
from quickstudy.serve import batching
from quickstudy.serve.batching import Batcher
from quickstudy.serve.errors import Refused
from quickstudy.serve.metrics import Metrics


class Network:
    """Stands in for the models: says a question's own number, once it may."""

    def __init__(self) -> None:
        self.go, self.began = threading.Event(), threading.Event()
        self.calls: list[list[int]] = []

    def __call__(self, asked: Sequence[Any]) -> list[Any]:
        self.began.set()
        assert self.go.wait(10)
        self.calls.append(list(asked))
        if 13 in asked:
            raise RuntimeError("thirteen")
        return [Said(np.array([[float(one)]]), torch.zeros(1, 1), len(asked)) for one in asked]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    found = Network()
    monkeypatch.setattr(batching, "answer_together", found)
    return found


def submit(batcher: Batcher, number: int) -> Any:
    return batcher.submit(number)  # type: ignore[arg-type]


def test_who_waits_together_is_answered_together(network: Network) -> None:
    metrics = Metrics()
    batcher = Batcher(metrics)
    first = submit(batcher, 0)
    assert network.began.wait(10)
    others = [submit(batcher, number) for number in range(100, 199)]
    network.go.set()
    assert first.result(10).logits == 0
    assert [float(other.result(10).logits[0, 0]) for other in others] == list(range(100, 199))
    assert [len(call) for call in network.calls] == [1, 64, 35]  # at most so many
    batcher.close()
    assert "quickstudy_tasks_together_count 100.0" in metrics.text().decode()


def test_a_question_that_fails_harms_no_other(network: Network) -> None:
    batcher = Batcher(Metrics())
    submit(batcher, 0)
    assert network.began.wait(10)
    others = [submit(batcher, number) for number in (12, 13, 14)]
    network.go.set()
    assert [float(others[place].result(10).logits[0, 0]) for place in (0, 2)] == [12, 14]
    with pytest.raises(RuntimeError, match="thirteen"):
        others[1].result(10)
    batcher.close()


def test_a_question_that_is_taken_back(network: Network) -> None:
    batcher = Batcher(Metrics())
    submit(batcher, 0)
    assert network.began.wait(10)
    gone, kept = submit(batcher, 1), submit(batcher, 2)
    assert gone.cancel()
    network.go.set()
    assert kept.result(10).logits == 2
    assert network.calls == [[0], [2]]
    batcher.close()


def test_a_stop_answers_what_was_asked(network: Network) -> None:
    batcher = Batcher(Metrics())
    asked = [submit(batcher, number) for number in range(3)]
    network.go.set()
    batcher.close()
    assert [float(one.result(0).logits[0, 0]) for one in asked] == [0, 1, 2]
    with pytest.raises(Refused, match=r"The service stops\. Ask again in a moment\."):
        submit(batcher, 4)
