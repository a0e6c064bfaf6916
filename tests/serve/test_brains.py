"""Tasks that were learned: as many as there is room for, each by the learner that it has."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from quickstudy.serve import brains
from quickstudy.serve.access import LOCAL
from quickstudy.serve.brains import Brain
from tests.serve.things import make, rows


def service_of(client: TestClient) -> Any:
    return client.app.state.service  # type: ignore[attr-defined]


def learned(client: TestClient, task: Any) -> Brain:
    found = service_of(client).brains.of(task)
    return found if isinstance(found, Brain) else found.result(30)


def test_a_learner_that_was_changed_meanwhile(fresh: TestClient) -> None:
    """Who asked before is answered at the later revision, by its learner."""
    id_ = make(fresh, rows(), learner="logistic")
    before = service_of(fresh).store.task(LOCAL, id_)
    fresh.patch(f"/v1/tasks/{id_}", json={"learner": "knn"})
    service_of(fresh).brains._known.clear()
    brain = learned(fresh, before)
    assert brain.task.revision == before.revision + 1 and brain.name == "knn"
    assert learned(fresh, service_of(fresh).store.task(LOCAL, id_)) is brain


def test_as_many_as_there_is_room_for(fresh: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what they take of the memory: a task of large examples counts for more than one of small ones."""
    store, keeper = service_of(fresh).store, service_of(fresh).brains
    small, large = (
        make(fresh, [{"label": f"{k % 2}", "row": [float(k)] * width} for k in range(20)], learner="knn")
        for width in (1, 500)
    )
    sizes = [learned(fresh, store.task(LOCAL, id_)).bytes for id_ in (small, large)]
    assert sizes[1] > 20 * 500 * 4 > sizes[0] and keeper._held == sum(sizes)
    monkeypatch.setattr(brains, "_BYTES", sum(sizes))
    another = make(fresh, rows(), learner="knn")
    learned(fresh, store.task(LOCAL, another))
    assert [key[0] for key in keeper._known] == [large, another]
    assert keeper._held == sum(brain.bytes for brain in keeper._known.values())
