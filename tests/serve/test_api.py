"""What docs/service.md promises, address by address."""

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from quickstudy import FewShotClassifier
from quickstudy.serve import Settings, create_app, routes_about
from tests.serve.things import b64, client_of, drawing, error_of, make, rows, shapes, tone

TASK = {
    *(
        "id",
        "name",
        "kind",
        "learner",
        "classes",
        "examples",
        "revision",
        "ready",
        "reject_unknown",
        "created",
        "changed",
    )
}


def classify(client: TestClient, task: str, *queries: dict[str, Any], **more: Any) -> dict[str, Any]:
    answer = client.post(f"/v1/tasks/{task}/classify", json={"queries": list(queries), **more})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_a_new_task(client: TestClient) -> None:
    made = client.post("/v1/tasks", json={"name": " mood "})
    assert made.status_code == 201
    task = made.json()
    assert set(task) == TASK
    assert task["name"] == "mood" and task["kind"] is None and task["revision"] == 0 and task["ready"] is False
    assert task["learner"] == {"asked": "auto", "name": None, "why": None} and task["reject_unknown"] == 0.05
    assert made.headers["etag"] == '"0"'
    assert client.get(f"/v1/tasks/{task['id']}").json() == task


def test_pictures_are_learned_and_classified(client: TestClient) -> None:
    task = make(client)
    added = client.post(f"/v1/tasks/{task}/examples", json={"examples": shapes()}).json()
    assert [one["label"] for one in added["examples"]] == ["ring", "ring", "stroke", "stroke"]
    assert added["task"]["kind"] == "pictures" and added["task"]["ready"] and added["task"]["revision"] == 1
    assert added["task"]["learner"]["name"] == "drawings"
    assert added["task"]["classes"] == [{"label": "ring", "examples": 2}, {"label": "stroke", "examples": 2}]
    found = classify(client, task, {"image": b64(drawing("ring", 3))}, {"image": b64(drawing("stroke", 3))})
    assert found["task"] == task and found["revision"] == 1 and found["promise"] == "tasks like those of validation"
    assert [one["label"] for one in found["answers"]] == ["ring", "stroke"]
    first = found["answers"][0]
    assert first["probability"] == first["probabilities"]["ring"] == max(first["probabilities"].values())
    assert sum(first["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert {near["label"] for near in first["nearest"][:2]} == {"ring"} and len(first["nearest"]) == 3
    assert first["nearest"][0]["example"] in {one["id"] for one in added["examples"]}
    assert first["nearest"] == sorted(first["nearest"], key=lambda near: near["distance"])


def test_answers_are_those_of_the_estimator(client: TestClient) -> None:
    """What the service says is what `FewShotClassifier` says of the same files, unknown ones and sets included."""
    task = make(client, shapes(n=3), reject_unknown=0.2)
    asked = [drawing("ring", 4), drawing("stroke", 4), drawing("ring", 0, 90)]
    found = classify(client, task, *({"image": b64(one)} for one in asked), coverage=0.8)

    def opened(content: bytes) -> Image.Image:
        return Image.open(io.BytesIO(content))

    X = [opened(drawing(shape, shift)) for shape in ("ring", "stroke") for shift in range(3)]
    model = FewShotClassifier(reject_unknown=0.2).fit(X, ["ring"] * 3 + ["stroke"] * 3)
    new = [opened(one) for one in asked]
    probable = [list(one["probabilities"].values()) for one in found["answers"]]
    np.testing.assert_allclose(probable, model.predict_proba(new), atol=2e-6)
    assert [one["unknown"] for one in found["answers"]] == model.is_unknown(new).tolist()
    sets = [[label in one["set"] for label in model.classes_] for one in found["answers"]]
    assert sets == model.predict_set(new, 0.8).tolist()
    near = [[round(far, 4) for _, _, far in some] for some in model.nearest_examples(new)]
    assert [[round(one["distance"], 4) for one in answer["nearest"]] for answer in found["answers"]] == near


def test_texts_rows_and_sounds(client: TestClient) -> None:
    texts = [{"label": "glad", "text": "what a fine day"}, {"label": "sad", "text": "it rains again"}]
    task = make(client, texts, learner="tf-idf", reject_unknown=None)
    found = classify(client, task, {"text": "a fine evening"}, nearest=0, coverage=None)
    assert found["answers"][0]["label"] == "glad" and found["promise"] is None
    assert found["answers"][0]["nearest"] == [] and found["answers"][0]["set"] is None
    assert found["answers"][0]["unknown"] is False
    task = make(client, rows(), learner="knn")
    assert classify(client, task, {"row": [5, 6]})["answers"][0]["label"] == "high"
    sounds = [{"label": f"{hertz}", "audio": b64(tone(hertz))} for hertz in (300, 2000)]
    task = make(client, sounds)
    assert client.get(f"/v1/tasks/{task}").json()["kind"] == "sounds"
    assert classify(client, task, {"audio": b64(tone(310))})["answers"][0]["label"] == "300"


def test_a_form_of_files(client: TestClient) -> None:
    task = make(client)
    for shape in ("ring", "stroke"):
        files = [("file", (f"{n}.png", drawing(shape, n), "image/png")) for n in range(2)]
        added = client.post(f"/v1/tasks/{task}/examples", files=files, data={"label": shape})
        assert added.status_code == 201, added.text
    assert added.json()["task"]["examples"] == 4 and added.json()["task"]["revision"] == 2
    asked = client.post(
        f"/v1/tasks/{task}/classify",
        files=[("file", ("x.png", drawing("stroke", 3), "image/png"))],
        data={"nearest": "1", "coverage": "0.5"},
    )
    (one,) = asked.json()["answers"]
    assert one["label"] == "stroke" and len(one["nearest"]) == 1
    texts = make(client, learner="tf-idf")
    for label, text in (("glad", b"a fine day"), ("sad", b"rain")):
        file = [("file", ("a.txt", text, "text/plain"))]
        assert client.post(f"/v1/tasks/{texts}/examples", files=file, data={"label": label}).status_code == 201
    assert client.get(f"/v1/tasks/{texts}").json()["kind"] == "texts"


def test_an_unreadable_file_among_good_ones(client: TestClient) -> None:
    """Named and all refused; the rest kept on request."""
    task = make(client)
    files = [("file", ("good.png", drawing("ring"), "image/png")), ("file", ("bad.png", b"no picture", "image/png"))]
    refused = client.post(f"/v1/tasks/{task}/examples", files=files, data={"label": "ring"})
    assert error_of(refused)[:2] == (422, "unreadable") and "bad.png" in error_of(refused)[2]
    assert client.get(f"/v1/tasks/{task}").json()["revision"] == 0
    kept = client.post(f"/v1/tasks/{task}/examples?skip=true", files=files, data={"label": "ring"})
    assert kept.status_code == 201 and kept.json()["task"]["examples"] == 1
    (left,) = kept.json()["left_out"]
    assert left["index"] == 1 and left["name"] == "bad.png" and left["message"].startswith("Cannot read bad.png")


def test_contents_come_back_as_they_were_sent(client: TestClient) -> None:
    sent = {
        "image": (drawing("ring"), "image/png"),
        "audio": (tone(300), "audio/wav"),
        "text": ("ein schöner Tag\n".encode(), "text/plain; charset=utf-8"),
        "row": (b"[1.5, 2.0]", "application/json"),
    }
    for name, (content, media) in sent.items():
        data = {"text": content.decode()} if name == "text" else {"row": [1.5, 2]} if name == "row" else None
        task = make(client, [{"label": "a", **(data or {name: b64(content)})}])
        (example,) = client.get(f"/v1/tasks/{task}/examples").json()["examples"]
        got = client.get(f"/v1/tasks/{task}/examples/{example['id']}/content")
        assert got.content == content and got.headers["content-type"] == media
        assert got.headers["x-content-type-options"] == "nosniff"
        assert "sandbox" in got.headers["content-security-policy"]


def test_pages_of_lists(fresh: TestClient) -> None:
    task = make(fresh, rows(n=3), name="first")
    others = [make(fresh, name=f"task {n}") for n in range(3)]
    page = fresh.get("/v1/tasks?limit=2").json()
    assert [one["id"] for one in page["tasks"]] == [others[2], others[1]] and page["next"] == others[1]
    page = fresh.get(f"/v1/tasks?limit=2&after={page['next']}").json()
    assert [one["id"] for one in page["tasks"]] == [others[0], task] and page["next"] is None
    assert page["tasks"][1]["classes"] == [{"label": "high", "examples": 3}, {"label": "low", "examples": 3}]
    seen: list[str] = []
    after = ""
    while True:
        page = fresh.get(f"/v1/tasks/{task}/examples?limit=2{after}").json()
        seen += [one["label"] for one in page["examples"]]
        if page["next"] is None:
            break
        after = f"&after={page['next']}"
    assert seen == ["low"] * 3 + ["high"] * 3
    some = fresh.get(f"/v1/tasks/{task}/examples", params={"label": "high"}).json()["examples"]
    assert [one["label"] for one in some] == ["high"] * 3 and {one["kind"] for one in some} == {"rows"}


def test_changes(fresh: TestClient) -> None:
    task = make(fresh, rows(), learner="knn")
    changed = fresh.patch(f"/v1/tasks/{task}", json={"name": "heights", "learner": "logistic", "reject_unknown": None})
    assert changed.json()["name"] == "heights" and changed.json()["reject_unknown"] is None
    assert changed.json()["learner"] == {"asked": "logistic", "name": "logistic", "why": "as asked for"}
    renamed = fresh.put(f"/v1/tasks/{task}/classes/low", json={"label": "a/b ä?"})
    assert [one["label"] for one in renamed.json()["classes"]] == ["a/b ä?", "high"]
    assert classify(fresh, task, {"row": [0, 0]})["answers"][0]["label"] == "a/b ä?"
    (first, *_) = fresh.get(f"/v1/tasks/{task}/examples").json()["examples"]
    fewer = fresh.delete(f"/v1/tasks/{task}/examples/{first['id']}").json()
    assert fewer["examples"] == 3 and fewer["revision"] == 4
    alone = fresh.delete(f"/v1/tasks/{task}/classes/a%2Fb%20%C3%A4%3F").json()
    assert alone["classes"] == [{"label": "high", "examples": 2}] and not alone["ready"]
    assert alone["learner"] == {"asked": "logistic", "name": None, "why": None}
    refused = error_of(fresh.post(f"/v1/tasks/{task}/classify", json={"queries": [{"row": [0, 0]}]}))
    assert refused[:2] == (409, "not_ready") and "'high'" in refused[2]
    empty = fresh.delete(f"/v1/tasks/{task}/classes/high").json()
    assert empty["kind"] is None and empty["examples"] == 0  # it may become a task of something else
    assert fresh.post(f"/v1/tasks/{task}/examples", json={"examples": shapes()}).status_code == 201
    assert fresh.delete(f"/v1/tasks/{task}").status_code == 204
    assert error_of(fresh.get(f"/v1/tasks/{task}"))[:2] == (404, "no_such_task")
    assert fresh.get("/v1/tasks").json() == {"tasks": [], "next": None}


def test_a_learner_that_cannot_learn_a_task_says_why(client: TestClient) -> None:
    task = make(client, rows(), learner="tf-idf")
    found = client.get(f"/v1/tasks/{task}").json()
    assert not found["ready"] and found["learner"]["name"] is None and "TF-IDF reads texts" in found["learner"]["why"]
    refused = error_of(client.post(f"/v1/tasks/{task}/classify", json={"queries": [{"row": [1, 2]}]}))
    assert refused[:2] == (422, "cannot_learn") and "TF-IDF reads texts" in refused[2]
    beside = client.post(f"/v1/tasks/{task}/compare", json={"query": {"row": [1, 2]}}).json()["learners"]
    assert beside[0]["name"] == "tf-idf" and "TF-IDF reads texts" in beside[0]["error"]
    assert {"rows", "knn"} <= {one["name"] for one in beside if one.get("label")}
    assert client.patch(f"/v1/tasks/{task}", json={"learner": "auto"}).json()["ready"]


def test_learners(client: TestClient) -> None:
    found = {one["name"]: one for one in client.get("/v1/learners").json()["learners"]}
    assert {"auto", "drawings", "pictures", "sounds", "rows", "knn", "logistic", "tf-idf"} <= set(found)
    assert "rows-real" not in found and "maml" not in found and "pt-map" not in found
    assert found["drawings"]["kind"] == "pictures" and found["knn"]["kind"] is None
    assert all(one["summary"] for one in found.values())


def test_compare(client: TestClient) -> None:
    task = make(client, shapes())
    query = {"image": b64(drawing("ring", 3))}
    found = client.post(f"/v1/tasks/{task}/compare", json={"query": query}).json()["learners"]
    assert found[0]["name"] == "drawings" and found[-1]["name"] == "knn"
    for one in found:
        assert one["label"] == "ring" and sum(one["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert one["milliseconds"] > 0 and one["summary"]
    auto = client.post(f"/v1/tasks/{task}/compare", json={"query": query, "learners": ["auto"]}).json()["learners"]
    assert auto[0] == {**found[0], "milliseconds": auto[0]["milliseconds"]}  # by the name of what it took
    body = {"query": query, "learners": ["knn", "tf-idf"]}
    knn, other = client.post(f"/v1/tasks/{task}/compare", json=body).json()["learners"]
    assert knn["label"] == "ring" and "TF-IDF reads texts" in other["error"] and "label" not in other


def test_map(client: TestClient) -> None:
    task = make(client, shapes())
    alone = client.post(f"/v1/tasks/{task}/map", json={}).json()["points"]
    ids = [one["id"] for one in client.get(f"/v1/tasks/{task}/examples").json()["examples"]]
    assert [one["example"] for one in alone] == ids and [one["label"] for one in alone] == ["ring"] * 2 + ["stroke"] * 2
    asked = [{"image": b64(drawing("ring", 1))}, {"image": b64(drawing("stroke", 1))}]
    points = client.post(f"/v1/tasks/{task}/map", json={"queries": asked}).json()["points"]
    assert points[:4] == alone  # a query moves no example
    assert all(-1 <= one[axis] <= 1 for one in points for axis in "xy")
    ring, stroke = points[4:]
    assert (ring["query"], stroke["query"]) == (0, 1)
    assert (ring["x"], ring["y"]) == pytest.approx((alone[1]["x"], alone[1]["y"]), abs=1e-4)  # the same drawing
    assert max(max(abs(one["x"]), abs(one["y"])) for one in alone) == pytest.approx(0.9, abs=1e-5)


def test_about(fresh: TestClient) -> None:
    assert fresh.get("/health").json()["status"] == "ok"
    assert fresh.get("/ready").json() == {"status": "ready"}
    task = make(fresh, rows())
    classify(fresh, task, {"row": [1, 1]})
    text = fresh.get("/metrics").text
    assert 'quickstudy_requests_total{method="POST",route="/v1/tasks/{task}/classify",status="200"} 1.0' in text
    assert "quickstudy_queries_total" in text and "quickstudy_learned_total" in text
    assert task not in text and "local" not in text  # nobody's task, nobody's name


def test_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of its files has an address, and no other file has."""
    static = tmp_path / "static"
    (static / "parts").mkdir(parents=True)
    for name in ("index.html", "main.js", "parts/a.css", "notes.txt"):
        (static / name).write_text(f"/* {name} */")
    (tmp_path / "secret.html").write_text("secret")
    monkeypatch.setattr(routes_about, "_STATIC", static)
    with client_of(create_app(Settings(tasks=tmp_path / "tasks"))) as client:
        page = client.get("/")
        assert page.text == "/* index.html */" and page.headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert client.get("/main.js").headers["content-type"] == "text/javascript; charset=utf-8"
        assert client.get("/parts/a.css").headers["content-type"] == "text/css; charset=utf-8"
        for path in ("/notes.txt", "/../secret.html", "/%2e%2e/secret.html", "/parts/../../secret.html", "/parts/"):
            assert error_of(client.get(path))[:2] == (404, "no_such_address")
        assert client.head("/").status_code == 200


def test_the_description_and_its_page(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert described["openapi"].startswith("3.") and len(described["paths"]) >= 15
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert operation["summary"] and operation["description"], (method, path)
            if path.startswith("/v1/"):
                assert "4XX" in operation["responses"], (method, path)
    examples = described["components"]["schemas"]["NewExamples"]["examples"]
    task = make(client)
    assert client.post(f"/v1/tasks/{task}/examples", json=examples[0]).status_code == 201
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "/v1/tasks/{task}/classify" in page.text
    assert "http://" not in page.text and "https://" not in page.text  # nothing from elsewhere


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_pages_hold_no_script_and_no_style_and_may_not(client: TestClient, path: str) -> None:
    page = client.get(path)
    assert "unsafe" not in page.headers["content-security-policy"]
    assert not re.search(r"<style| style=|<script(?! [^>]*src=)", page.text)
    for address in re.findall(r'(?:href|src)="([^"#]+)"', page.text):
        assert client.get(f"/{address.removeprefix('./').removeprefix('/')}").status_code == 200, address
