"""Whatever is sent: a 4xx of one sentence, and the task is what it was."""

import io
import itertools
import json
import re
import struct
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from starlette.testclient import TestClient

from quickstudy import FewShotClassifier
from quickstudy.errors import InputError
from quickstudy.serve import Limits, Settings, content, create_app, requests, service
from quickstudy.serve.errors import Refused
from quickstudy.serve.store import Store
from tests.serve.things import b64, client_of, drawing, error_of, make, rows, shapes, tone

SMALL = Limits(
    body_bytes=400_000,
    content_bytes=100_000,
    pixels=50_000,
    sound_seconds=2,
    text_letters=50,
    row_numbers=4,
    label_letters=10,
    name_letters=20,
    examples_per_request=20,
    queries_per_request=3,
    learners_per_request=2,
    classes_per_task=4,
    examples_per_task=30,
    task_bytes=150_000,
)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(create_app(Settings(tasks=tmp_path_factory.mktemp("small"), limits=SMALL))) as found:
        yield found


def huge_png(side: int = 10_000) -> bytes:
    """A whole PNG of 100 million white pixels, in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    squeezer = zlib.compressobj(9)
    line = bytes(1 + side // 8)
    body = b"".join(squeezer.compress(line) for _ in range(side)) + squeezer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def wide_sound() -> bytes:
    held = io.BytesIO()
    soundfile.write(held, [[0.0] * 20] * 100, 8000, format="WAV")
    return held.getvalue()


def image(content: bytes) -> dict[str, Any]:
    return {"label": "a", "image": b64(content)}


EXAMPLES: dict[str, tuple[Any, int, str]] = {
    "none": ([], 422, "examples: List should have at least 1 item"),
    "no content": ([{"label": "a"}], 422, "exactly one of text, row, image and audio, found none"),
    "two contents": ([{"label": "a", "text": "b", "row": [1]}], 422, "found text and row"),
    "no label": ([{"text": "b"}], 422, r"examples\[0\].label: Field required"),
    "empty label": ([{"label": " ", "text": "b"}], 422, "at least one letter that can be seen"),
    "nul in a label": ([{"label": "a\0", "text": "b"}], 422, r"no control characters, found U\+0000"),
    "a label that is a number": ([{"label": 3, "text": "b"}], 422, r"\[0\].label: Input should be a valid string"),
    "labels of mixed types": ([{"label": "a", "text": "b"}, {"label": None, "text": "b"}], 422, r"examples\[1\].label"),
    "long label": ([{"label": "a" * 11, "text": "b"}], 422, "at most 10 letters; this one has 11"),
    "unknown field": ([{"label": "a", "text": "b", "colour": 1}], 422, "colour: Extra inputs are not permitted"),
    "empty text": ([{"label": "a", "text": " \n"}], 422, r"Cannot read examples\[0\]: the text is empty"),
    "nul in a text": ([{"label": "a", "text": "\0"}], 422, "the text is empty"),
    "long text": ([{"label": "a", "text": "b" * 51}], 413, "it has 51 letters; at most 50"),
    "empty row": ([{"label": "a", "row": []}], 422, "row: List should have at least 1 item"),
    "long row": ([{"label": "a", "row": [1] * 5}], 413, "it has 5 numbers; at most 4"),
    "rows of two lengths": ([{"label": "a", "row": [1]}, {"label": "b", "row": [1, 2]}], 422, "found 1 and 2"),
    "huge number": ([{"label": "a", "row": [1e300]}], 422, "not finite, or larger than"),
    "words in a row": ([{"label": "a", "row": ["x"]}], 422, r"row\[0\]: Input should be a valid number"),
    "a number as a text": ([{"label": "a", "row": ["1.5"]}], 422, r"row\[0\]: Input should be a valid number"),
    "a truth in a row": ([{"label": "a", "row": [True]}], 422, r"row\[0\]: Input should be a valid number"),
    "a label of marks": ([{"label": "\u200b\u202e", "text": "b"}], 422, "at least one letter that can be seen"),
    "a blank letter": ([{"label": "\u3164", "text": "b"}], 422, "at least one letter that can be seen"),
    "two lines in a label": ([{"label": "a\u2028b", "text": "b"}], 422, r"no control characters, found U\+2028"),
    "no base64": ([{"label": "a", "image": "!"}], 422, r"Cannot read examples\[0\]: it is no base64"),
    "empty image": ([image(b"")], 422, "it is empty"),
    "no picture": ([image(b"hello")], 422, "it is no picture"),
    "a cut picture": ([image(drawing("ring")[:-30])], 422, "it is cut off or damaged"),
    "a sound as a picture": ([image(tone(300))], 422, "it is no picture"),
    "a hundred megapixels": ([image(huge_png())], 413, "it has 100,000,000 pixels; at most 50,000"),
    "no sound": ([{"label": "a", "audio": b64(b"hello")}], 422, "it is no sound"),
    "a cut sound": ([{"label": "a", "audio": b64(tone(300)[:400])}], 422, "it is cut off"),
    "a long sound": ([{"label": "a", "audio": b64(tone(300, 3))}], 413, "it has 3 seconds; at most 2"),
    "twenty channels": ([{"label": "a", "audio": b64(wide_sound())}], 422, "20 channels of 8000"),
    "absurdly long row": ([{"label": "a", "row": [1] * 100_001}], 422, "row: List should have at most 100000 items"),
    "two kinds": ([{"label": "a", "text": "b"}, {"label": "a", "row": [1]}], 422, "these are rows and texts"),
    "too many at once": ([{"label": "a", "row": [1]}] * 21, 413, "There are 21 examples; at most 20"),
    "too many classes": ([{"label": str(n), "row": [1]} for n in range(5)], 422, "have 5 classes; at most 4"),
    "too large": ([{"label": "a", "image": b64(bytes(100_001))}], 413, r"it has 100,00\d bytes; at most 100,000"),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_bad_examples(small: TestClient, name: str) -> None:
    examples, status, sentence = EXAMPLES[name]
    task = make(small)
    refused = small.post(f"/v1/tasks/{task}/examples", json={"examples": examples})
    found = error_of(refused)
    assert found[0] == status, found
    assert re.search(sentence, found[2]), found[2]
    after = small.get(f"/v1/tasks/{task}").json()
    assert after["revision"] == 0 and after["examples"] == 0 and after["kind"] is None


def test_ten_thousand_classes(client: TestClient) -> None:
    task = make(client)
    many = [{"label": f"class {n}", "row": [n]} for n in range(10_000)]
    assert error_of(client.post(f"/v1/tasks/{task}/examples", json={"examples": many}))[0] == 413
    refused = client.post(f"/v1/tasks/{task}/examples", json={"examples": many[:500]})
    assert error_of(refused) == (422, "too_many", "This task would have 500 classes; at most 100 are allowed. "
                                 "Nothing was added. Use a further task.")  # fmt: skip


def test_a_hundred_megapixels_are_not_decoded(client: TestClient) -> None:
    content, began = huge_png(), time.monotonic()
    task = make(client)
    assert error_of(client.post(f"/v1/tasks/{task}/examples", json={"examples": [image(content)]}))[0] == 413
    assert time.monotonic() - began < 1


def test_a_sound_of_far_more_samples_than_bytes(client: TestClient) -> None:
    """Eight seconds of silence: decoded they would be a hundred megabytes, and a minute of it would be allowed."""
    held = io.BytesIO()
    soundfile.write(held, np.zeros((8 * 192_000, 8), dtype=np.int16), 192_000, format="FLAC")
    assert len(held.getvalue()) < 100_000
    body = {"examples": [{"label": "a", "audio": b64(held.getvalue())}]}
    refused = error_of(client.post(f"/v1/tasks/{make(client)}/examples", json=body))
    assert refused[0] == 413 and "it has 12,288,000 samples in all channels; at most 12,000,000" in refused[2]


def test_a_task_that_is_full(small: TestClient) -> None:
    task = make(small, [{"label": "a", "row": [1]}] * 20)
    refused = error_of(small.post(f"/v1/tasks/{task}/examples", json={"examples": [{"label": "a", "row": [1]}] * 11}))
    assert refused[1] == "too_many" and "31 examples; at most 30" in refused[2]
    pictures = make(small)
    body = {"examples": [{"label": "a", "image": b64(noise())}]}
    assert small.post(f"/v1/tasks/{pictures}/examples", json=body).status_code == 201
    refused = error_of(small.post(f"/v1/tasks/{pictures}/examples", json=body))
    assert refused[1] == "too_many" and "bytes of examples; at most 150,000" in refused[2]


def noise() -> bytes:
    """A picture that cannot be made small."""
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (170, 170, 3), dtype=np.uint8)).save(held, "PNG")
    assert 75_000 < len(held.getvalue()) < 100_000
    return held.getvalue()


def test_an_owner_who_is_full(tmp_path: Path) -> None:
    settings = Settings(tasks=tmp_path / "t", limits=replace(SMALL, tasks_per_owner=2))
    with client_of(create_app(settings)) as client:
        first = make(client)
        make(client)
        assert error_of(client.post("/v1/tasks", json={}))[:2] == (409, "too_many_tasks")
        client.delete(f"/v1/tasks/{first}")
        make(client)


def test_another_modality(client: TestClient) -> None:
    task = make(client, shapes())
    refused = client.post(f"/v1/tasks/{task}/examples", json={"examples": [{"label": "ring", "text": "a ring"}]})
    assert error_of(refused)[1:] == (
        "another_kind",
        "This task is of pictures, these are texts. Make another task for them.",
    )
    asked = client.post(f"/v1/tasks/{task}/classify", json={"queries": [{"text": "a ring"}]})
    assert error_of(asked)[1] == "another_kind" and "of pictures, the query is of texts" in error_of(asked)[2]


QUESTIONS: dict[str, tuple[Any, int, str]] = {
    "none": ({"queries": []}, 422, "queries: List should have at least 1 item"),
    "absent": ({}, 422, "queries: Field required"),
    "too many": ({"queries": [{"row": [1, 2]}] * 4}, 413, "There are 4 queries; at most 3"),
    "coverage": ({"queries": [{"row": [1, 2]}], "coverage": 1}, 422, "coverage: Input should be less than 1"),
    "nearest": ({"queries": [{"row": [1, 2]}], "nearest": -1}, 422, "nearest: Input should be greater than"),
    "another length": ({"queries": [{"row": [1]}]}, 422, "A row of this task has 2 numbers; the query has 1"),
    "broken query": ({"queries": [{"row": [1, 2]}, {"image": "?"}]}, 422, r"Cannot read queries\[1\]"),
}  # fmt: skip


@pytest.mark.parametrize("name", QUESTIONS)
def test_bad_questions(small: TestClient, name: str) -> None:
    body, status, sentence = QUESTIONS[name]
    task = make(small, rows())
    found = error_of(small.post(f"/v1/tasks/{task}/classify", json=body))
    assert found[0] == status and re.search(sentence, found[2]), found


BODIES: dict[str, tuple[bytes, str, int, str]] = {
    "no JSON": (b"{", "application/json", 400, "Invalid JSON"),
    "no UTF-8": (b'{"name": "\xff"}', "application/json", 400, "Invalid JSON"),
    "half a pair": (b'{"name": "\\ud800"}', "application/json", 400, "Invalid JSON"),
    "nested": (b"[" * 100_000, "application/json", 400, "recursion limit"),
    "nested in a field": (b'{"name":' + b"[" * 100_000, "application/json", 400, "recursion limit"),
    "not finite": (b'{"reject_unknown": NaN}', "application/json", 422, "reject_unknown"),
    "a list": (b"[]", "application/json", 422, "should be an object"),
    "another type": (b"name=x", "application/x-www-form-urlencoded", 415, "Expected application/json"),
    "too large": (b" " * 400_001, "application/json", 413, "larger than 400,000 bytes"),
    "rate of 1": (b'{"reject_unknown": 1}', "application/json", 422, "less than 1"),
    "long name": (b'{"name": "' + b"a" * 21 + b'"}', "application/json", 422, "at most 20 letters"),
    "no learner": (b'{"learner": "protonett"}', "application/json", 422, "There is no learner called 'protonett'"),
    "a path": (b'{"learner": "/etc"}', "application/json", 422, "There is no learner called '/etc'"),
    "a run": (b'{"learner": "runs/a-s0-001"}', "application/json", 422, "There is no learner called"),
    "to be trained": (b'{"learner": "maml"}', "application/json", 422, "There is no learner called 'maml'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies(small: TestClient, name: str) -> None:
    body, media, status, sentence = BODIES[name]
    found = error_of(small.post("/v1/tasks", content=body, headers={"content-type": media}))
    assert found[0] == status and sentence in found[2], found
    assert {one["name"] for one in small.get("/v1/tasks?limit=500").json()["tasks"]} <= {"task"}


ADDRESSES: list[tuple[str, str, int, str]] = [
    ("GET", "/v1/nothing", 404, "no_such_address"),
    ("GET", "/v1/tasks/", 404, "no_such_address"),
    ("GET", "/../../etc/passwd", 404, "no_such_address"),
    ("GET", "/static/../app.py", 404, "no_such_address"),
    ("GET", "/v1/tasks/000000000000000000000000", 404, "no_such_task"),
    ("GET", "/v1/tasks/x%00y", 404, "no_such_task"),
    ("GET", "/v1/tasks/x%27%20or%201=1", 404, "no_such_task"),
    ("GET", "/v1/tasks?limit=0", 422, "invalid"),
    ("GET", "/v1/tasks?limit=x", 422, "invalid"),
    ("GET", "/v1/tasks?after=x", 404, "no_such_task"),
    ("PUT", "/v1/tasks", 405, "method_not_allowed"),
    ("GET", "/v1/tasks/000000000000000000000000/classify", 405, "method_not_allowed"),
    ("TRACE", "/v1/tasks", 405, "method_not_allowed"),
    ("DELETE", "/health", 405, "method_not_allowed"),
]


@pytest.mark.parametrize(("method", "path", "status", "code"), ADDRESSES)
def test_bad_addresses(client: TestClient, method: str, path: str, status: int, code: str) -> None:
    answer = client.request(method, path)
    assert error_of(answer)[:2] == (status, code)
    if status == 405:
        assert method not in answer.headers["allow"]


def test_what_a_method_allows_is_said(client: TestClient) -> None:
    assert client.put("/v1/tasks").headers["allow"] == "GET, POST"
    assert client.put(f"/v1/tasks/{'0' * 24}").headers["allow"] == "DELETE, GET, PATCH"


def test_labels_that_no_path_holds(client: TestClient) -> None:
    task = make(client, [{"label": label, "row": [place]} for place, label in enumerate(("..", ".", "a", "b"))])
    url = f"/v1/tasks/{task}/classes"
    renamed = client.put(url, params={"label": ".."}, json={"label": "up"})
    assert [one["label"] for one in renamed.json()["classes"]] == [".", "a", "b", "up"]
    left = client.delete(url, params={"label": "."})
    assert [one["label"] for one in left.json()["classes"]] == ["a", "b", "up"]
    assert error_of(client.delete(url))[0] == 422
    assert error_of(client.delete(url, params={"label": "."}))[:2] == (404, "no_such_class")


def test_bad_classes_and_examples(client: TestClient) -> None:
    task = make(client, rows())
    base = f"/v1/tasks/{task}"
    assert error_of(client.delete(f"{base}/classes/medium"))[1:] == (
        "no_such_class", "This task has no class called 'medium'. It has: 'high', 'low'.")  # fmt: skip
    assert error_of(client.delete(f"{base}/classes/%00"))[:2] == (404, "no_such_class")
    assert error_of(client.put(f"{base}/classes/low", json={"label": "high"}))[:2] == (409, "name_taken")
    assert error_of(client.put(f"{base}/classes/low", json={"label": ""}))[0] == 422
    assert client.put(f"{base}/classes/low", json={"label": "low"}).status_code == 200
    assert error_of(client.delete(f"{base}/examples/{'0' * 24}"))[:2] == (404, "no_such_example")
    assert error_of(client.get(f"{base}/examples/%00/content"))[:2] == (404, "no_such_example")
    assert error_of(client.get(f"{base}/examples?after=x"))[:2] == (404, "no_such_example")
    assert error_of(client.get(f"{base}/examples?label=%00"))[0] == 422
    assert error_of(client.patch(base, json={}))[2].startswith("There is nothing to change.")


def test_bad_forms(small: TestClient) -> None:
    task = make(small)
    url = f"/v1/tasks/{task}/examples"
    good = ("file", ("a.png", drawing("ring"), "image/png"))
    assert error_of(small.post(url, files=[good]))[2].startswith("This is no label")
    assert (
        "Files are sent as fields called file"
        in error_of(small.post(url, files={"x": good[1]}, data={"label": "a"}))[2]
    )
    assert error_of(small.post(url, files=[good] * 21, data={"label": "a"}))[0] == 413
    head = {"content-type": "multipart/form-data"}
    assert error_of(small.post(url, content=b"--x", headers=head))[0] == 400
    assert error_of(small.post(url, content=b"nonsense", headers={"content-type": "multipart/form-data; boundary=x"}))[
        0
    ] in (400, 422)
    row = ("file", ("a.json", json.dumps([1, "x"]).encode(), "application/json"))
    assert "expected one row" in error_of(small.post(url, files=[row], data={"label": "a"}))[2]
    text = ("file", ("a.txt", b"\xff\xfe", "text/plain"))
    assert "no text in UTF-8" in error_of(small.post(url, files=[text], data={"label": "a"}))[2]
    odd = make(small, rows())
    file = [("file", ("r.json", b"[1, 2]", "application/json"))]
    asked = small.post(f"/v1/tasks/{odd}/classify", files=file, data={"nearest": "x"})
    assert error_of(asked)[2].startswith("nearest and coverage are numbers")
    assert error_of(small.post(f"/v1/tasks/{odd}/classify", files=file, data={"coverage": "2"}))[0] == 422


def test_who_shows_no_key_fills_no_memory(client: TestClient) -> None:
    """At addresses that want none a body is of no use, and a large one is refused."""
    for method, path in (("POST", "/health"), ("GET", "/"), ("POST", "/nothing"), ("POST", "/metrics")):
        refused = client.request(method, path, content=b"x" * 70_000)
        assert error_of(refused)[:2] == (413, "too_large") and "65,536 bytes" in error_of(refused)[2]
    assert client.request("GET", "/health", content=b"x").status_code == 200


def test_too_many_to_compare(small: TestClient) -> None:
    task = make(small, rows())
    body = {"query": {"row": [1, 2]}, "learners": ["knn", "logistic", "rows"]}
    assert error_of(small.post(f"/v1/tasks/{task}/compare", json=body))[0] == 413
    body["learners"] = ["knn", "nothing"]
    assert error_of(small.post(f"/v1/tasks/{task}/compare", json=body))[:2] == (422, "no_such_learner")


def test_too_fast(tmp_path: Path) -> None:
    with client_of(create_app(Settings(tasks=tmp_path / "t", limits=Limits(requests_per_second=2)))) as client:
        began = time.monotonic()
        answers = [client.get("/v1/tasks")]
        while answers[-1].status_code == 200:
            answers.append(client.get("/v1/tasks"))
        let_in = len(answers) - 1
        assert 4 <= let_in <= 4 + 2 * (time.monotonic() - began)  # four at once, two more a second on a slow machine
        assert error_of(answers[-1])[0] == 429 and "2 a second" in error_of(answers[-1])[2]
        assert answers[-1].headers["retry-after"] == "1"
        assert client.get("/health").status_code == 200


def test_sounds_without_soundfile(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [{"label": "a", "audio": b64(tone(300))}]
    monkeypatch.setitem(sys.modules, "soundfile", None)
    refused = client.post(f"/v1/tasks/{make(client)}/examples", json={"examples": sent})
    assert error_of(refused)[0] == 422 and "soundfile is not installed" in error_of(refused)[2]


def test_a_failure_of_our_own(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No traceback for the client; the log has it, and the metrics count it."""
    monkeypatch.setattr(Store, "list_tasks", lambda *given: 1 / 0)
    failed = error_of(client.get("/v1/tasks"))
    assert failed == (500, "internal", "This should not happen. The service's log says more; please report it.")
    assert "ZeroDivisionError" in caplog.text
    assert "quickstudy_failures_total 1.0" in client.get("/metrics").text


def test_too_much_at_once(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client.app.state.service.state, "working", 256)  # type: ignore[attr-defined]
    busy = client.get("/v1/tasks")
    assert error_of(busy)[:2] == (503, "busy") and busy.headers["retry-after"] == "1"
    assert client.get("/health").status_code == 200


def test_what_takes_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client is told to come again; what is learned meanwhile is there then."""
    go = threading.Event()
    fit = FewShotClassifier.fit

    def slow(self: FewShotClassifier, X: Any, y: Any) -> FewShotClassifier:
        go.wait(30)
        return fit(self, X, y)

    monkeypatch.setattr(FewShotClassifier, "fit", slow)
    monkeypatch.setattr(service, "_GLANCE", 0.05)
    with client_of(create_app(Settings(tasks=tmp_path / "t", limits=Limits(compute_seconds=1)))) as client:
        task = make(client, rows(), learner="knn")  # answered, though nothing was learned yet
        assert client.get(f"/v1/tasks/{task}").json()["learner"]["name"] is None
        question = {"queries": [{"row": [1, 1]}]}
        busy = client.post(f"/v1/tasks/{task}/classify", json=question)
        assert error_of(busy)[:2] == (503, "busy") and "longer than 1 seconds" in error_of(busy)[2]
        monkeypatch.setattr(client.app.state.service.state, "hurry", True)  # type: ignore[attr-defined]
        stopping = client.post(f"/v1/tasks/{task}/classify", json=question)  # though it would wait for a second
        assert error_of(stopping)[:2] == (503, "stopping") and stopping.headers["retry-after"]
        monkeypatch.setattr(client.app.state.service.state, "hurry", False)  # type: ignore[attr-defined]
        go.set()
        answers = [client.post(f"/v1/tasks/{task}/classify", json=question) for _ in range(2)]
        assert answers[-1].json()["answers"][0]["label"] == "low"


def test_folds_that_take_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is to be known of all examples before a set of labels can be named is computed with the first question."""
    go = threading.Event()
    scores = FewShotClassifier._left_out_scores
    monkeypatch.setattr(FewShotClassifier, "_left_out_scores", lambda self: scores(self) if go.wait(30) else None)
    with client_of(create_app(Settings(tasks=tmp_path / "t", limits=Limits(compute_seconds=1)))) as client:
        task = make(client, rows(12), learner="knn")
        question = {"queries": [{"row": [1, 1]}]}
        busy = client.post(f"/v1/tasks/{task}/classify", json=question)
        go.set()
        assert error_of(busy)[:2] == (503, "busy")
        assert client.post(f"/v1/tasks/{task}/classify", json=question).json()["promise"] == "own examples"


def test_what_has_one_class_waits_for_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another task that is long in learning does not keep it from being told what it needs."""
    go = threading.Event()
    monkeypatch.setattr(FewShotClassifier, "fit", lambda self, X, y: go.wait(30))
    monkeypatch.setattr(service, "_GLANCE", 0.05)
    limits = Limits(compute_seconds=2)
    with client_of(create_app(Settings(tasks=tmp_path / "t", limits=limits, warm=False))) as client:
        make(client, rows(), learner="knn")
        alone = make(client, [{"label": "a", "row": [1, 2]}])
        found = error_of(client.post(f"/v1/tasks/{alone}/classify", json={"queries": [{"row": [1, 1]}]}))
        go.set()
        assert found[:2] == (409, "not_ready") and "has 'a'" in found[2]


def test_what_takes_too_long_to_read(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few bytes, many pixels, many times: refused before all is read, and meanwhile others are answered."""
    task, others = make(client), make(client)
    clock = itertools.count(step=20)
    monkeypatch.setattr(content, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    many = [{"label": "a", "text": str(n)} for n in range(5)]
    found = error_of(client.post(f"/v1/tasks/{task}/examples", json={"examples": many}))
    assert found[:2] == (413, "too_large") and "longer than 30 seconds. Nothing was changed" in found[2]
    assert client.post(f"/v1/tasks/{others}/examples", json={"examples": many[:1]}).status_code == 201
    packed = client.get(f"/v1/tasks/{make(client, many[:1])}/export").content
    monkeypatch.setattr(content, "time", SimpleNamespace(monotonic=itertools.count(step=40).__next__))
    head = {"Content-Type": "application/zip"}
    assert error_of(client.post("/v1/tasks/import", content=packed, headers=head))[:2] == (413, "too_large")


def test_whoever_reads_keeps_nobody_from_the_database(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def slow(*given: Any) -> Any:
        go.wait(6)
        raise Refused(422, "late")

    monkeypatch.setattr(requests, "_checked", slow)
    task = make(client)
    with ThreadPoolExecutor(12) as pool:
        url, one = f"/v1/tasks/{task}/examples", {"examples": [{"label": "a", "text": "b"}]}
        waiting = [pool.submit(client.post, url, json=one) for _ in range(12)]
        time.sleep(1)  # they are all being read, or wait for it
        began = time.monotonic()
        assert client.get(f"/v1/tasks/{task}").status_code == 200
        waited = time.monotonic() - began
        go.set()
        assert waited < 3
        assert {answer.result().status_code for answer in waiting} == {422}


def test_limits_that_are_none() -> None:
    with pytest.raises(InputError, match=r"There is no limit called 'pixel'. Did you mean 'pixels'\?"):
        Limits().changed(["pixel=3"])
    for odd in ("pixels", "pixels=-1", "pixels=x", "pixels=0"):
        with pytest.raises(InputError, match="--limit pixels: expected a whole number of at least 1, received"):
            Limits().changed([odd])
    assert Limits().changed(["body-bytes=5", "pixels=7"]) == Limits(body_bytes=5, pixels=7)
