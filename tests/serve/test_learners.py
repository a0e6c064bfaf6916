"""Whom a client may name: those of the package and those that the operator lists; never a path."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import quickstudy.shipped
from quickstudy import FewShotClassifier
from quickstudy.errors import InputError
from quickstudy.learners import KNN
from quickstudy.serve import Settings, create_app
from quickstudy.serve.learners import Roster
from tests.serve.things import b64, client_of, drawing, error_of, make, rows, shapes

SHIPPED = Path(quickstudy.shipped.__file__).parent


@pytest.fixture
def own(tmp_path: Path) -> Any:
    """A service whose operator lists a learner of another folder."""
    shutil.copytree(SHIPPED / "drawings", tmp_path / "a folder")
    settings = Settings(tasks=tmp_path / "tasks", learners={"mine": tmp_path / "a folder"})
    with client_of(create_app(settings)) as client:
        yield client


def test_a_learner_of_the_operator(own: TestClient) -> None:
    (about,) = [one for one in own.get("/v1/learners").json()["learners"] if one["name"] == "mine"]
    assert about["kind"] == "pictures" and "Trained on ink." in about["summary"]
    query = {"image": b64(drawing("ring", 3))}
    task = make(own, shapes(), learner="mine")
    assert own.get(f"/v1/tasks/{task}").json()["learner"]["name"] == "mine"
    mine, shipped = own.post(
        f"/v1/tasks/{task}/compare", json={"query": query, "learners": ["mine", "drawings"]}
    ).json()["learners"]
    assert mine["name"] == "mine" and mine["probabilities"] == shipped["probabilities"]
    listed = own.post(f"/v1/tasks/{make(own, shapes())}/compare", json={"query": query}).json()["learners"]
    assert "mine" in [one["name"] for one in listed]
    packed = own.get(f"/v1/tasks/{task}/export").content
    again = own.post("/v1/tasks/import", content=packed, headers={"content-type": "application/zip"})
    assert again.status_code == 201 and again.json()["learner"]["asked"] == "mine"


def test_a_learner_that_is_offered_no_more(own: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name is not taken for a folder, though one of that name is here."""
    task = make(own, shapes(), learner="mine")
    shutil.copytree(SHIPPED / "drawings", tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    with client_of(create_app(Settings(tasks=tmp_path / "tasks"))) as later:
        asked = later.post(f"/v1/tasks/{task}/classify", json={"queries": [{"image": b64(drawing("ring"))}]})
        said = "This service does not offer the learner 'mine' any more. Choose another one."
        assert error_of(asked) == (422, "cannot_learn", said)
        about = later.get(f"/v1/tasks/{task}").json()
        assert not about["ready"] and about["learner"]["why"] == said
        assert later.patch(f"/v1/tasks/{task}", json={"learner": "auto"}).json()["ready"]


def test_its_folder_cannot_be_asked_for(own: TestClient, tmp_path: Path) -> None:
    for name in (
        str(tmp_path / "a folder"),
        "a folder",
        "../a folder",
        "./mine",
        f"hf-vision:{tmp_path}",
        "hf-text:x/y",
    ):
        refused = error_of(own.post("/v1/tasks", json={"learner": name}))
        assert refused[:2] == (422, "no_such_learner")
        task = make(own, rows())
        body = {"query": {"row": [1, 1]}, "learners": [name]}
        assert error_of(own.post(f"/v1/tasks/{task}/compare", json=body))[:2] == (422, "no_such_learner")
        assert error_of(own.patch(f"/v1/tasks/{task}", json={"learner": name}))[:2] == (422, "no_such_learner")


def test_learners_that_cannot_be_listed(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--learner knn: there is a learner of this name already"):
        Roster({"knn": SHIPPED / "drawings"})
    with pytest.raises(InputError, match="--learner mine: it says numbers, and the service wants an inductive learner"):
        Roster({"mine": SHIPPED / "rows-real"})
    with pytest.raises(InputError, match="There is no run"):
        Roster({"mine": tmp_path / "nothing"})


def test_losses_of_inner_steps(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a learner that says some; others have none."""
    task = make(client, rows())
    body = {"query": {"row": [1, 1]}, "learners": ["knn"]}
    assert "losses" not in client.post(f"/v1/tasks/{task}/compare", json=body).json()["learners"][0]
    monkeypatch.setattr(FewShotClassifier, "support_losses", lambda self: [0.69314718, 0.25])
    other = make(client, rows())
    answer = client.post(f"/v1/tasks/{other}/compare", json=body).json()["learners"][0]
    assert answer["losses"] == [0.693147, 0.25]


def test_what_auto_took_has_a_line_about_it() -> None:
    """Though nobody could ask for it by name, such as an encoder that is in reach."""
    roster = Roster({})
    assert roster.summary("hf-vision:some/model", KNN()) == roster.summary("knn")
    assert roster.called("auto", "hf-vision:some/model") == "hf-vision:some/model"
