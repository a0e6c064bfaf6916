"""The database: nothing lost, nothing doubled, whoever writes at the same time."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from starlette.testclient import TestClient

from quickstudy.errors import InputError, StorageError
from quickstudy.serve import Limits
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import Change, New
from quickstudy.serve.store import Store
from quickstudy.serve.tables import open_database
from tests.serve.things import error_of, make, rows


def new(*labels: str, content: bytes = b"[1.0]") -> list[New]:
    return [New(label, "application/json", content, 1) for label in labels]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(open_database(tmp_path), Limits())


def test_a_revision_that_was_expected(client: TestClient) -> None:
    task = make(client, rows())
    url = f"/v1/tasks/{task}"
    first = client.patch(url, json={"name": "mine"}, headers={"If-Match": '"1"'})
    assert first.status_code == 200 and first.headers["etag"] == '"2"'
    second = client.patch(url, json={"name": "theirs"}, headers={"If-Match": "1"})
    assert error_of(second)[:2] == (412, "changed") and "revision 1, it is at 2" in error_of(second)[2]
    for method, path, body in (
        ("POST", "/examples", {"examples": rows()}),
        ("DELETE", f"/examples/{client.get(url + '/examples').json()['examples'][0]['id']}", None),
        ("PUT", "/classes/low", {"label": "x"}),
        ("DELETE", "/classes/low", None),
        ("DELETE", "", None),
    ):
        refused = client.request(method, url + path, json=body, headers={"If-Match": "1"})
        assert error_of(refused)[0] == 412
    assert client.get(url).json()["name"] == "mine" and client.get(url).json()["revision"] == 2
    assert client.patch(url, json={"name": "x"}, headers={"If-Match": "*"}).status_code == 200
    for odd in ("x", "-1", "1 2", "9" * 20):
        assert error_of(client.patch(url, json={"name": "x"}, headers={"If-Match": odd}))[0] == 400


def test_a_request_that_is_sent_twice_counts_once(client: TestClient) -> None:
    task = make(client)
    url, head = f"/v1/tasks/{task}/examples", {"Idempotency-Key": "first"}
    answers = [client.post(url, json={"examples": rows()}, headers=head) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [201] * 3
    assert answers[0].json() == answers[1].json() == answers[2].json()
    assert client.get(f"/v1/tasks/{task}").json()["examples"] == 4
    other = client.post(url, json={"examples": rows(1)}, headers=head)
    assert error_of(other)[:2] == (422, "key_reused")
    assert client.post(url, json={"examples": rows()}, headers={"Idempotency-Key": "second"}).status_code == 201
    assert client.get(f"/v1/tasks/{task}").json()["examples"] == 8
    assert error_of(client.post(url, json={"examples": rows()}, headers={"Idempotency-Key": "x" * 201}))[0] == 400
    assert error_of(client.post(url, json={"examples": rows()}, headers={"Idempotency-Key": ""}))[0] == 400
    # The same word names another request of another task.
    assert (
        client.post(f"/v1/tasks/{make(client)}/examples", json={"examples": rows(1)}, headers=head).status_code == 201
    )


def test_many_writers_on_one_task(store: Store, tmp_path: Path) -> None:
    """Two stores on one file, eight threads: every example that was answered is there, once."""
    other = Store(open_database(tmp_path), Limits())
    task = store.make("anna", None, "auto", None)
    names = [f"{writer}-{number}" for writer in range(8) for number in range(5)]

    def write(name: str) -> tuple[str, str]:
        where = store if name[0] in "0246" else other
        change = Change(key=name)
        added = where.add("anna", task.id, change, "rows", new(name))
        again = where.add("anna", task.id, change, "rows", new(name))
        assert again.examples == added.examples
        return added.examples[0]

    with ThreadPoolExecutor(8) as threads:
        answered = list(threads.map(write, names))
    there, examples = store.everything("anna", task.id)
    assert sorted((one.id, one.label) for one in examples) == sorted(answered)
    assert [one.number for one in examples] == list(range(40)) and there.revision == 40


def test_only_one_of_two_who_expect_the_same_revision(store: Store) -> None:
    task = store.make("anna", None, "auto", None)

    def write(number: int) -> bool:
        try:
            store.add("anna", task.id, Change(expected=0), "rows", new(str(number)))
        except Refused as error:
            assert error.status == 412
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(write, range(8))) == 1
    assert store.task("anna", task.id).n == 1


class Writers(RuleBasedStateMachine):
    """Whatever is done, in whatever order: the database says what a list in memory says."""

    labels = st.sampled_from(["a", "b", "ü/"])

    @initialize()
    def begin(self) -> None:
        self.store = Store(open_database(Path("/nowhere"), "sqlite://"), Limits(examples_per_task=12))
        self.task = self.store.make("anna", None, "auto", None).id
        self.known: list[tuple[str, str]] = []
        self.revision = 0

    @rule(
        labels=st.lists(labels, min_size=1, max_size=4), expected=st.sampled_from([0, -1]), key=st.sampled_from([None])
    )
    def add(self, labels: list[str], expected: int, key: str | None) -> None:
        change = Change(self.revision + expected, key)
        fits = expected == 0 and len(self.known) + len(labels) <= 12
        try:
            added = self.store.add("anna", self.task, change, "rows", new(*labels))
        except Refused as error:
            assert not fits and error.status in (412, 422)
            return
        assert fits
        self.known += added.examples
        self.revision += 1

    @precondition(lambda self: self.known)
    @rule(place=st.integers(0, 20))
    def remove(self, place: int) -> None:
        id_, _ = self.known.pop(place % len(self.known))
        self.store.remove("anna", self.task, Change(), id_)
        self.revision += 1

    @precondition(lambda self: self.known)
    @rule(old=labels, fresh=labels)
    def rename(self, old: str, fresh: str) -> None:
        there = {label for _, label in self.known}
        fits = old in there and (fresh not in there or fresh == old)
        try:
            self.store.rename_class("anna", self.task, Change(), old, fresh)
        except Refused as error:
            assert not fits and error.status in (404, 409)
            return
        assert fits
        self.known = [(id_, fresh if label == old else label) for id_, label in self.known]
        self.revision += 1

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "task"):
            return
        task, examples = self.store.everything("anna", self.task)
        assert [(one.id, one.label) for one in examples] == self.known
        assert dict(task.classes) == dict(Counter(label for _, label in self.known))
        assert task.revision == self.revision and task.bytes == 5 * len(self.known)
        assert (task.kind is None) == (not self.known)


TestWriters: Any = Writers.TestCase
TestWriters.settings = settings(
    deadline=None, max_examples=15, stateful_step_count=12, suppress_health_check=[HealthCheck.too_slow]
)


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        ("nonsense", "is none that can be used"),
        ("oracle://x", "Cannot keep tasks in oracle: SQLite and PostgreSQL are known here"),
        ("mysql+pymysql://x/y", "Cannot keep tasks in mysql"),
    ],
)
def test_addresses_that_are_none(tmp_path: Path, address: str, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        open_database(tmp_path, address)


def test_databases_that_do_not_answer(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Cannot open the database: .* Check its address and that it runs"):
        open_database(tmp_path, "postgresql://nobody@127.0.0.1:1/none")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="Cannot keep tasks in"):
        open_database(tmp_path / "file")
    (tmp_path / "tasks.sqlite").write_bytes(b"no database at all" * 100)
    with pytest.raises(StorageError, match="Cannot open the database: file is not a database"):
        open_database(tmp_path)
