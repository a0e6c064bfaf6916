"""The service as it is started: it stops in good order, and what it answered survives a kill."""

import gc
import itertools
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from quickstudy.cli import main
from quickstudy.serve import Settings, create_app, running
from tests.serve.things import Process, client_of, error_of, make, rows, served

BRISK = ("--limit", "head-seconds=1", "--limit", "body-seconds=1", "--limit", "body-bytes=200000")


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    with served(tmp_path_factory.mktemp("process") / "tasks", *BRISK) as found:
        yield found


def raw(process: Process) -> socket.socket:
    host, port = process.address.removeprefix("http://").split(":")
    found = socket.create_connection((host, int(port)), timeout=10)
    return found


def read(connection: socket.socket) -> bytes:
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def test_it_becomes_ready(process: Process) -> None:
    for _ in range(300):
        answer = process.client.get("/ready")
        if answer.status_code == 200:
            return
        assert error_of(answer)[:2] == (503, "starting")
        time.sleep(0.1)
    raise AssertionError("not ready within 30 seconds")


def test_a_client_that_sends_no_head(process: Process) -> None:
    with raw(process) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost:")
        began = time.monotonic()
        assert read(connection) == b"" and time.monotonic() - began < 5
    assert process.client.get("/health").status_code == 200


def test_a_client_that_sends_no_second_head(process: Process) -> None:
    """Byte for byte, after a request that was answered."""
    with raw(process) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 200")
        began, gone = time.monotonic(), False
        while not gone and time.monotonic() - began < 5:
            time.sleep(0.2)
            try:
                connection.sendall(b"G")
            except (BrokenPipeError, ConnectionResetError):
                gone = True
        assert gone


def test_a_client_that_sends_its_body_slowly(process: Process) -> None:
    with raw(process) as connection:
        connection.sendall(
            b"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 50\r\n\r\n{"
        )
        began = time.monotonic()
        answer = read(connection)
        assert answer.startswith(b"HTTP/1.1 408") and b"did not come within 1 seconds" in answer
        assert time.monotonic() - began < 5


def test_a_body_that_is_too_large(process: Process) -> None:
    """Declared or not: the client reads why, though it was still sending."""
    whole = process.client.post("/v1/tasks", content=b"x" * 300_000)
    assert error_of(whole)[:2] == (413, "too_large")
    parts = process.client.post("/v1/tasks", content=(b"x" * 10_000 for _ in range(30)))
    assert error_of(parts)[:2] == (413, "too_large")


@pytest.mark.parametrize(
    "request_",
    [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 200_000, b"\x16\x03\x01\x02\x00" * 9],
    ids=["nonsense", "a long head", "TLS"],
)  # fmt: skip
def test_what_is_no_request(process: Process, request_: bytes) -> None:
    with raw(process) as connection:
        connection.sendall(request_)
        try:
            answer = read(connection)
        except ConnectionResetError:
            answer = b""
        assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert process.client.get("/health").status_code == 200


def test_a_port_that_is_taken(process: Process, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    port = process.address.rpartition(":")[2]
    with pytest.raises(SystemExit, match="1"):
        main(["serve", "--tasks", str(tmp_path), "--port", port])
    said = capsys.readouterr().err
    assert said.startswith(f"error: Cannot listen on 127.0.0.1, port {port}: Address already in use.")
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--tasks", str(tmp_path), "--host", "0.0.0.0"])
    assert capsys.readouterr().err.startswith("error: Cannot listen on 0.0.0.0: there is no key yet")


class Writers:
    """Clients that add examples until the service answers no more, and what they were told.

    Args:
        address: of the service.
        tasks: one for each client.
        shared: a task for all of them, too.
    """

    def __init__(self, address: str, tasks: list[str], shared: str) -> None:
        self.address, self.tasks, self.shared = address, tasks, shared
        self.answered: dict[str, set[str]] = {task: set() for task in [*tasks, shared]}
        self.refused = 0
        self._threads = ThreadPoolExecutor(len(tasks))
        self._ends = [self._threads.submit(self._write, number) for number in range(len(tasks))]

    def wait(self, least: int) -> None:
        """Until each task has so many answers."""
        while min(map(len, self.answered.values())) < least:
            assert not any(end.done() for end in self._ends), [end.exception() for end in self._ends if end.done()]
            time.sleep(0.01)

    def join(self) -> None:
        for end in self._ends:
            end.result(timeout=60)
        self._threads.shutdown()

    def _write(self, number: int) -> None:
        with httpx.Client(base_url=self.address, timeout=30) as client:
            for place in itertools.count():
                for task in (self.tasks[number], self.shared):
                    body = {"examples": [{"label": f"{place % 5}", "row": [number]}]}
                    head = {"Idempotency-Key": f"{number}-{place}"}
                    try:
                        answer = client.post(f"/v1/tasks/{task}/examples", json=body, headers=head)
                    except httpx.TransportError:
                        return
                    if answer.status_code == 201:
                        self.answered[task].add(answer.json()["examples"][0]["id"])
                    else:
                        assert error_of(answer)[:2] == (503, "stopping") and answer.headers["retry-after"]
                        self.refused += 1


def all_examples(client: Any, task: str) -> list[str]:
    found: list[str] = []
    after = ""
    while True:
        page = client.get(f"/v1/tasks/{task}/examples?limit=500{after}").json()
        found += [one["id"] for one in page["examples"]]
        if page["next"] is None:
            return found
        after = f"&after={page['next']}"


def check(client: Any, writers: Writers, unanswered: int) -> None:
    """Every example that was answered is there, none twice, and each in its own task.

    Args:
        client: of the service that was started again.
        writers: who wrote.
        unanswered: examples of each client and task that may have been kept without an answer.
    """
    for task, ids in writers.answered.items():
        listed = all_examples(client, task)
        assert ids <= set(listed) and len(listed) == len(set(listed))
        assert len(listed) - len(ids) <= unanswered * (len(writers.tasks) if task == writers.shared else 1)
        if task != writers.shared:
            contents = {client.get(f"/v1/tasks/{task}/examples/{one}/content").text for one in listed[-3:]}
            assert contents == {f"[{writers.tasks.index(task)}.0]"}


def test_a_kill_and_a_stop_lose_nothing(tmp_path: Path) -> None:
    """Six clients; killed and started again, then told to stop: status 0, soon, and not a word in the log."""
    folder = tmp_path / "tasks"
    with served(folder, "--no-warm") as process:
        shared, *tasks = [make(process.client, learner="knn") for _ in range(7)]
        writers = Writers(process.address, tasks, shared)
        writers.wait(least=3)
        process.kill()
        writers.join()
    with served(folder, "--no-warm") as process:
        check(process.client, writers, unanswered=1)
        bad_requests(process.client)
        shared, *tasks = [make(process.client, learner="knn") for _ in range(7)]
        writers = Writers(process.address, tasks, shared)
        writers.wait(least=3)
        began = time.monotonic()
        assert process.stop() == (0, "")
        assert time.monotonic() - began < 15
        writers.join()
        assert writers.refused  # in words
    with client_of(create_app(Settings(tasks=folder))) as client:
        check(client, writers, unanswered=0)


def bad_requests(client: httpx.Client) -> None:
    """They, and what libraries have to say of odd numbers, are nothing for the log."""
    task = make(client, rows(12), learner="logistic")
    for body in ({"queries": [{"row": [1e30, -1e30]}]}, {"queries": [{"row": [1]}]}, {"queries": "x"}):
        assert client.post(f"/v1/tasks/{task}/classify", json=body).status_code in (200, 422)
    assert client.post("/v1/tasks", content=b"{").status_code == 400


def test_what_is_loaded_is_not_looked_through_again() -> None:
    """Half a second in which nobody is answered, else, every now and then."""
    before = gc.get_freeze_count()
    try:
        running._settle()
        assert gc.get_freeze_count() > before + 10_000
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_sixty_four_clients_and_kills(tmp_path: Path) -> None:
    for _ in range(3):
        with served(tmp_path / "tasks") as process:
            shared, *tasks = [make(process.client, learner="knn") for _ in range(65)]
            writers = Writers(process.address, tasks, shared)
            writers.wait(least=3)
            process.kill()
            writers.join()
        with served(tmp_path / "tasks") as process:
            check(process.client, writers, unanswered=1)
            process.popen.send_signal(signal.SIGINT)
            assert process.end() == (0, "")
