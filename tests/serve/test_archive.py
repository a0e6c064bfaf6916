"""Export and import: what comes back is what went out, and a bad zip harms nobody."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from quickstudy import FewShotClassifier
from quickstudy.estimators import load_task
from quickstudy.serve import Limits, Settings, create_app
from tests.serve.things import b64, client_of, drawing, error_of, make, rows, shapes, tone

LIMITS = Limits(content_bytes=20_000, task_bytes=60_000, examples_per_task=20, body_bytes=50_000)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with client_of(create_app(Settings(tasks=tmp_path_factory.mktemp("small"), limits=LIMITS))) as found:
        yield found


def imported(client: TestClient, content: bytes, query: str = "") -> Any:
    return client.post(f"/v1/tasks/import{query}", content=content, headers={"content-type": "application/zip"})


@pytest.mark.parametrize("kind", ["pictures", "rows", "texts", "sounds"])
def test_round_trip(client: TestClient, kind: str) -> None:
    examples: list[dict[str, Any]] = {
        "pictures": shapes(),
        "rows": rows(),
        "texts": [{"label": "glad", "text": "ein schöner Tag"}, {"label": "trüb", "text": "es regnet"}],
        "sounds": [{"label": str(hertz), "audio": b64(tone(hertz, format="FLAC"))} for hertz in (300, 2000)],
    }[kind]
    learner = {"pictures": "auto", "rows": "knn", "texts": "tf-idf", "sounds": "sounds"}[kind]
    task = make(client, examples, name="my/task ü", learner=learner, reject_unknown=0.2)
    packed = client.get(f"/v1/tasks/{task}/export")
    assert packed.headers["content-type"] == "application/zip"
    assert "filename*=UTF-8''my%2Ftask%20%C3%BC.zip" in packed.headers["content-disposition"]
    new = imported(client, packed.content)
    assert new.status_code == 201 and new.json()["id"] != task
    same = ("name", "kind", "learner", "classes", "examples", "reject_unknown", "ready")
    old = client.get(f"/v1/tasks/{task}").json()
    assert {name: new.json()[name] for name in same} == {name: old[name] for name in same}
    query = {"queries": [{name: value for name, value in examples[0].items() if name != "label"}]}
    answers = [client.post(f"/v1/tasks/{id_}/classify", json=query).json() for id_ in (task, new.json()["id"])]
    for key in ("label", "probabilities", "unknown", "set"):
        assert answers[0]["answers"][0][key] == answers[1]["answers"][0][key]
    contents = []
    for id_ in (task, new.json()["id"]):
        listed = client.get(f"/v1/tasks/{id_}/examples").json()["examples"]
        contents.append([client.get(f"/v1/tasks/{id_}/examples/{one['id']}/content").content for one in listed])
    assert contents[0] == contents[1]
    form = client.post("/v1/tasks/import", files={"file": ("t.zip", packed.content)})
    assert form.status_code == 201


def test_what_was_learned_is_a_task_of_python(client: TestClient, tmp_path: Path) -> None:
    task = make(client, shapes())
    with zipfile.ZipFile(io.BytesIO(client.get(f"/v1/tasks/{task}/export").content)) as archive:
        archive.extractall(tmp_path)
    assert len(list((tmp_path / "examples").glob("*.png"))) == 4
    model = load_task(tmp_path / "learned")
    assert isinstance(model, FewShotClassifier)
    (tmp_path / "new.png").write_bytes(drawing("ring", 3))
    asked = client.post(f"/v1/tasks/{task}/classify", json={"queries": [{"image": b64(drawing("ring", 3))}]}).json()
    probable = asked["answers"][0]["probabilities"]
    assert dict(zip("rs", model.predict_proba([tmp_path / "new.png"])[0], strict=True)) == pytest.approx(
        {"r": probable["ring"], "s": probable["stroke"]}, abs=2e-6
    )
    ids = [one["id"] for one in client.get(f"/v1/tasks/{task}/examples").json()["examples"]]
    assert model.names_ == ids


def test_a_task_that_cannot_be_learned_yet(client: TestClient) -> None:
    for examples in ([], rows()[:1]):
        packed = client.get(f"/v1/tasks/{make(client, examples)}/export").content
        assert not [name for name in zipfile.ZipFile(io.BytesIO(packed)).namelist() if name.startswith("learned/")]
        assert imported(client, packed).json()["examples"] == len(examples)


def zipped(about: Any, files: dict[str, bytes] | None = None, **options: Any) -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("task.json", about if isinstance(about, bytes) else json.dumps(about))
        for name, content in (files or {}).items():
            archive.writestr(name, content)
    del options
    return held.getvalue()


def about(*files: str, media: str = "text/plain", **more: Any) -> dict[str, Any]:
    examples = [{"label": "a", "file": file, "media": media} for file in files]
    return {"schema": 1, "name": "x", "examples": examples, **more}


def encrypted() -> bytes:
    content = bytearray(zipped(about("a"), {"a": b"x"}))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flag that says so
        place = content.find(mark, 0)
        while place >= 0:
            content[place + offset] |= 1
            place = content.find(mark, place + 4)
    return bytes(content)


def understated() -> bytes:
    """A file whose size in the directory is not its own."""
    content = bytearray(zipped(about("a"), {"a": bytes(100_000)}))
    place = content.rfind(b"PK\x01\x02")
    content[place + 24 : place + 28] = (10).to_bytes(4, "little")
    return bytes(content)


ZIPS: dict[str, tuple[bytes, int, str]] = {
    "nothing": (b"", 422, "it is no zip, or damaged"),
    "no zip": (b"hello", 422, "it is no zip, or damaged"),
    "cut off": (zipped(about("a"), {"a": b"text"})[:-30], 422, "it is no zip, or damaged"),
    "changed": (zipped(about("a"), {"a": b"text" * 9}).replace(b"task.json", b"tusk.json"), 422, "no file 'task.json'"),
    "no task": (zipped({"x": 1}), 422, "task.json does not describe a task: schema: Field required"),
    "no JSON": (zipped(b"{"), 422, "Invalid JSON"),
    "nested": (zipped(b"[" * 50_000), 422, "recursion limit"),
    "another version": (zipped({**about(), "schema": 2}), 422, "schema: Input should be less than or equal to 1"),
    "a missing file": (zipped(about("a")), 422, "it has no file 'a'"),
    "a path": (zipped(about("/etc/passwd")), 422, "it has no file '/etc/passwd'"),
    "a path upwards": (zipped(about("../../etc/passwd")), 422, "it has no file '../../etc/passwd'"),
    "encrypted": (encrypted(), 422, "it is no zip, or damaged"),
    "a bomb": (zipped(about("a"), {"a": bytes(10_000_000)}), 413, "'a' of 10,000,000 bytes; at most 20,000"),
    "a bomb that lies": (understated(), 422, "it is no zip, or damaged"),
    "many bombs": (zipped(about(*"abcd"), {name: b"a" * 19_000 for name in "abcd"}), 413, "at most"),
    "one bomb many times": (zipped(about(*["a"] * 4), {"a": b"a" * 19_000}), 413, "at most"),
    "a list of files alone": (b"PK\x01\x02" * 200, 413, "it has 200 files; at most 120"),
    "many files": (zipped(about(), {f"f{n}": b"" for n in range(130)}), 413, "it has 131 files; at most 120"),
    "many examples": (zipped(about(*["a"] * 21), {"a": b"x"}), 413, "it has 21 examples; at most 20"),
    "two kinds": (
        zipped({**about(), "examples": [{"label": "a", "file": "t", "media": "text/plain"},
                                        {"label": "a", "file": "r", "media": "application/json"}]},
               {"t": b"x", "r": b"[1]"}), 422, "several kinds: rows and texts"),
    "a learner from elsewhere": (zipped(about(learner="mine")), 422, "There is no learner called 'mine'"),
    "a learner by path": (zipped(about(learner="../x")), 422, "There is no learner called '../x'"),
    "a row of NaN": (zipped(about("a", media="application/json"), {"a": b"[NaN]"}), 422, "is not finite"),
    "a row of infinity": (zipped(about("a", media="application/json"), {"a": b"[-Infinity]"}), 422, "is not finite"),
    "no picture": (zipped(about("a", media="image/png"), {"a": b"x"}), 422, "Cannot read examples[0] of the zip"),
    "a long label": (zipped({**about(), "examples": [{"label": "a" * 101, "file": "a", "media": "text/plain"}]}),
                     422, "A label has at most 100 letters"),
}  # fmt: skip


@pytest.mark.parametrize("name", ZIPS)
def test_bad_zips(small: TestClient, name: str) -> None:
    content, status, sentence = ZIPS[name]
    before = len(small.get("/v1/tasks?limit=500").json()["tasks"])
    found = error_of(imported(small, content))
    assert found[0] == status and sentence in found[2], found
    assert len(small.get("/v1/tasks?limit=500").json()["tasks"]) == before


def test_another_learner_on_import(client: TestClient) -> None:
    packed = zipped(about("a", learner="mine"), {"a": b"x"})
    assert imported(client, packed, "?learner=tf-idf").json()["learner"]["asked"] == "tf-idf"


def test_what_is_learned_in_a_zip_is_not_believed(client: TestClient) -> None:
    """A pickle in the place of a learned task: nobody opens it."""
    packed = client.get(f"/v1/tasks/{make(client, rows(), learner='knn')}/export").content
    held = io.BytesIO(packed)
    with zipfile.ZipFile(held, "a") as archive:
        archive.writestr("learned/learner.pkl", b"cos\nsystem\n(S'false'\ntR.")
    assert imported(client, held.getvalue()).status_code == 201


def test_a_form_without_a_zip(client: TestClient) -> None:
    assert "There is no file in the form" in error_of(client.post("/v1/tasks/import", files={"x": b""}))[2]
    refused = client.post("/v1/tasks/import", content=b"{}", headers={"content-type": "application/json"})
    assert error_of(refused)[0] == 415
