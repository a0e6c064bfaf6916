"""Several replicas on one database: the same answer from any, whoever wrote."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from quickstudy.serve import Limits, Settings, create_app, records
from quickstudy.serve.access import Keys
from quickstudy.serve.records import Change, New
from quickstudy.serve.store import Store
from quickstudy.serve.tables import open_database
from tests.serve.postgres import running
from tests.serve.things import b64, client_of, drawing, error_of, make, rows, shapes


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def engine(postgres: str, tmp_path: Path) -> Iterator[sa.Engine]:
    found = open_database(tmp_path, postgres)
    yield found
    found.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def two(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[TestClient, TestClient]]:
    address = request.getfixturevalue("postgres") if request.param == "postgresql" else None
    with ExitStack() as stack:
        settings = Settings(tasks=tmp_path / "tasks", database=address)
        one, other = (stack.enter_context(client_of(create_app(settings))) for _ in range(2))
        yield one, other


def without(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in answer.items() if name not in names}


def test_the_same_answer_from_any(two: tuple[TestClient, TestClient]) -> None:
    one, other = two
    task = make(one, shapes())
    question = {"queries": [{"image": b64(drawing("ring", 3))}, {"image": b64(drawing("stroke", 2))}]}

    def asked(client: TestClient) -> Any:
        return client.post(f"/v1/tasks/{task}/classify", json=question).json()

    first = asked(one)
    assert asked(other) == first
    assert other.get(f"/v1/tasks/{task}").json() == one.get(f"/v1/tasks/{task}").json()
    # What one takes away the other has not learned any more.
    (example, *_) = other.get(f"/v1/tasks/{task}/examples").json()["examples"]
    other.delete(f"/v1/tasks/{task}/examples/{example['id']}")
    assert asked(one)["revision"] == 2 and asked(one) == asked(other) != first
    packed = [client.get(f"/v1/tasks/{task}/export").content for client in two]
    for client, content in zip(two, packed, strict=True):
        new = client.post("/v1/tasks/import", content=content, headers={"content-type": "application/zip"})
        assert new.json()["examples"] == 3
    one.delete(f"/v1/tasks/{task}")
    assert error_of(other.post(f"/v1/tasks/{task}/classify", json=question))[0] == 404


def test_writers_at_two_replicas_lose_nothing(two: tuple[TestClient, TestClient]) -> None:
    task = make(two[0])

    def write(number: int) -> str:
        client, label = two[number % 2], f"class {number % 7}"
        body = {"examples": [{"label": label, "row": [number, 0]}]}
        head = {"Idempotency-Key": f"{number}"}
        answers = [client.post(f"/v1/tasks/{task}/examples", json=body, headers=head) for client in (client, *two)]
        assert {answer.status_code for answer in answers} == {201}, [answer.text for answer in answers]
        (id_,) = {answer.json()["examples"][0]["id"] for answer in answers}
        return str(id_)

    with ThreadPoolExecutor(8) as threads:
        ids = list(threads.map(write, range(24)))
    listed = two[0].get(f"/v1/tasks/{task}/examples?limit=500").json()["examples"]
    assert sorted(one["id"] for one in listed) == sorted(ids)
    assert two[1].get(f"/v1/tasks/{task}").json()["revision"] == 24


def test_keys_are_shared(postgres: str, engine: sa.Engine, tmp_path: Path) -> None:
    secret, key = Keys(engine).add("anna")
    try:
        with client_of(create_app(Settings(tasks=tmp_path, database=postgres, host="0.0.0.0"))) as client:
            assert client.get("/v1/tasks", headers={"X-API-Key": secret}).status_code == 200
            Keys(engine).revoke(key.id)
            assert client.get("/v1/tasks", headers={"X-API-Key": secret}).status_code == 401
    finally:
        with engine.begin() as connection:
            connection.execute(sa.text("DELETE FROM access_keys"))


def test_a_connection_that_breaks(postgres: str, engine: sa.Engine, tmp_path: Path) -> None:
    """Somebody ends our connections: the next request meets new ones; nothing is answered that is not kept."""
    with client_of(create_app(Settings(tasks=tmp_path, database=postgres))) as client:
        task = make(client, rows(), learner="knn")
        with engine.begin() as connection:
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            )
        added = client.post(f"/v1/tasks/{task}/examples", json={"examples": rows(1)})
        assert added.status_code == 201 and added.json()["task"]["examples"] == 6


def test_a_database_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(create_app(Settings(tasks=tmp_path))) as client:
        task = make(client, rows(), learner="knn")

        def broken(*given: Any, **named: Any) -> Callable[[], None]:
            raise sa.exc.OperationalError("SELECT", {}, Exception("disk I/O error\nmore"))

        client.app.state.service.access._open_until = 0.0  # type: ignore[attr-defined]  # it looks for keys, too
        monkeypatch.setattr(sa.Engine, "begin", broken)
        answers = [client.get(f"/v1/tasks/{task}"), client.get("/ready"), client.post("/v1/tasks", json={})]
        for answer in answers:
            status, code, said = error_of(answer)
            assert (status, code) == (503, "database") and "(disk I/O error)" in said and "more" not in said
        monkeypatch.undo()
        assert client.get(f"/v1/tasks/{task}").json()["examples"] == 4


def test_a_task_and_its_classes_are_of_one_revision(
    postgres: str, engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though somebody writes between the two questions to the database."""
    store = Store(engine, Limits())
    task = store.make("someone", None, "auto", None)
    counted = records.classes_of

    def later(connection: sa.Connection, ids: Sequence[str]) -> dict[str, dict[str, int]]:
        monkeypatch.setattr(records, "classes_of", counted)
        store.add("someone", task.id, Change(), "texts", [New("a", "text/plain; charset=utf-8", b"b")])
        return counted(connection, ids)

    monkeypatch.setattr(records, "classes_of", later)
    seen = store.task("someone", task.id)
    assert (seen.revision, seen.n) == (0, 0)
    seen = store.task("someone", task.id)
    assert (seen.revision, seen.n) == (1, 1)


def test_tables_are_made_once(postgres: str, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        engines = list(threads.map(lambda _: open_database(tmp_path, postgres), range(4)))
    for engine in engines[1:]:
        engine.dispose()
    store = Store(engines[0], Limits())
    task = store.make("someone", None, "auto", None)
    store.add("someone", task.id, Change(), "texts", [New("a\u2028b", "text/plain; charset=utf-8", b"nul \0 in it")])
    assert store.everything("someone", task.id)[1][0].content == b"nul \0 in it"
    engines[0].dispose()
