"""Keys, owners, and who may ask where there are no keys."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.testclient import TestClient

from quickstudy.cli import main
from quickstudy.errors import InputError
from quickstudy.serve import Settings, create_app
from quickstudy.serve.access import Keys
from quickstudy.serve.tables import keys as table
from quickstudy.serve.tables import open_database
from tests.serve.things import client_of, error_of, make, rows


class As:
    """A client with a key."""

    def __init__(self, client: TestClient, key: str) -> None:
        self.client, self.head = client, {"Authorization": f"Bearer {key}"}

    def request(self, method: str, url: str, **more: Any) -> Any:
        return self.client.request(method, url, headers={**self.head, **more.pop("headers", {})}, **more)

    def get(self, url: str, **more: Any) -> Any:
        return self.request("GET", url, **more)

    def post(self, url: str, **more: Any) -> Any:
        return self.request("POST", url, **more)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A service with keys of two owners."""
    folder = tmp_path_factory.mktemp("kept")
    keys = Keys(open_database(folder))
    secrets = {owner: keys.add(owner)[0] for owner in ("anna", "ben")}
    with client_of(create_app(Settings(tasks=folder, host="0.0.0.0"))) as client:
        yield client, As(client, secrets["anna"]), As(client, secrets["ben"]), keys


def test_no_key_no_answer(kept: Any) -> None:
    client = kept[0]
    for head in ({}, {"Authorization": "Bearer qs_" + "x" * 43}, {"Authorization": "Basic eDp5"}, {"X-API-Key": "é"}):
        answer = client.get("/v1/tasks", headers={name: value.encode() for name, value in head.items()})
        assert error_of(answer)[0] == 401 and answer.headers["www-authenticate"] == "Bearer"
    assert error_of(client.get("/v1/learners"))[2].startswith("This service wants a key.")
    assert client.get("/health").status_code == client.get("/ready").status_code == 200


def test_owners_see_their_own_tasks_only(kept: Any) -> None:
    _, anna, ben, _ = kept
    task = make(anna, rows(), learner="knn")
    example = anna.get(f"/v1/tasks/{task}/examples").json()["examples"][0]["id"]
    mine = make(ben, rows(), learner="knn")
    assert [one["id"] for one in ben.get("/v1/tasks").json()["tasks"]] == [mine]
    question = {"queries": [{"row": [1, 1]}]}
    absent, other = "0" * 24, task
    for method, path, body in (
        ("GET", "", None),
        ("PATCH", "", {"name": "x"}),
        ("DELETE", "", None),
        ("POST", "/examples", {"examples": rows()}),
        ("GET", "/examples", None),
        ("GET", f"/examples/{example}/content", None),
        ("DELETE", f"/examples/{example}", None),
        ("PUT", "/classes/low", {"label": "x"}),
        ("DELETE", "/classes/low", None),
        ("POST", "/classify", question),
        ("POST", "/compare", {"query": {"row": [1, 1]}}),
        ("POST", "/map", {}),
        ("GET", "/export", None),
    ):
        refused = [ben.request(method, f"/v1/tasks/{id_}{path}", json=body) for id_ in (absent, other)]
        assert error_of(refused[0])[0] == 404
        assert refused[0].text == refused[1].text  # another's task and none at all look the same
    assert error_of(ben.get(f"/v1/tasks?after={task}"))[0] == 404
    # Nor by an example of another's task within one's own.
    assert error_of(ben.get(f"/v1/tasks/{mine}/examples/{example}/content"))[1] == "no_such_example"
    assert error_of(ben.get(f"/v1/tasks/{mine}/examples?after={example}"))[1] == "no_such_example"
    assert anna.get(f"/v1/tasks/{task}").json()["revision"] == 1


def test_keys_end(kept: Any) -> None:
    client, _, _, keys = kept
    secret, key = keys.add("carl", "2999-01-01")
    carl = As(client, secret)
    assert carl.get("/v1/tasks").status_code == 200
    with keys.engine.begin() as connection:
        connection.execute(sa.update(table).where(table.c.id == key.id).values(expires="2020-01-01T00:00:00Z"))
    assert error_of(carl.get("/v1/tasks"))[1:] == (
        "expired_key", "This key has expired (2020-01-01T00:00:00Z). Ask for another one.")  # fmt: skip
    secret, key = keys.add("carl")
    assert client.get("/v1/tasks", headers={"X-API-Key": secret}).status_code == 200
    keys.revoke(key.id)
    assert error_of(As(client, secret).get("/v1/tasks"))[:2] == (401, "revoked_key")


def test_a_key_is_kept_as_a_digest(tmp_path: Path) -> None:
    secret, key = Keys(open_database(tmp_path)).add("anna", "2999-12-31")
    assert len(secret) > 43 and key.expires == "2999-12-31T00:00:00.000000Z"
    held = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"anna" in held and secret.encode() not in held and secret[3:].encode() not in held


@pytest.mark.parametrize(
    ("owner", "expires", "sentence"),
    [
        ("", None, "Cannot make a key for the owner ''"),
        ("a\nb", None, "expected no control characters"),
        ("anna", "soon", "--expires: expected a date such as 2030-12-31, received 'soon'"),
        ("anna", "2020-01-01", "--expires: 2020-01-01 is past"),
    ],
)
def test_keys_that_cannot_be_made(tmp_path: Path, owner: str, expires: str | None, sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Keys(open_database(tmp_path)).add(owner, expires)


def test_an_unknown_key_is_not_revoked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no key 'x'"):
        Keys(open_database(tmp_path)).revoke("x")


# --- without keys ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "192.168.0.1:8000", "[::", "", "local host"]
)
def test_another_name_is_refused(client: TestClient, host: str) -> None:
    """A name that somebody's DNS leads here: a page of theirs would be of one origin with the service."""
    assert error_of(client.get("/v1/tasks", headers={"host": host}))[:2] == (403, "foreign_host")


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1", "[::1]:8000"])
def test_its_own_names_are_known(client: TestClient, host: str) -> None:
    assert client.get("/v1/tasks", headers={"host": host}).status_code == 200


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded"])
def test_a_proxy_wants_keys(client: TestClient, name: str) -> None:
    """Whoever it speaks for is on another machine, whatever name of ours it uses."""
    refused = client.get("/v1/tasks", headers={name: "for=10.0.0.1"})
    assert error_of(refused)[:2] == (403, "forwarded") and "--add-key OWNER" in error_of(refused)[2]


@pytest.mark.parametrize(
    "head",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9000"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_changes_from_other_sites_are_refused(client: TestClient, head: dict[str, str]) -> None:
    before = len(client.get("/v1/tasks").json()["tasks"])
    refused = client.post("/v1/tasks", content=b"{}", headers={"content-type": "application/json", **head})
    assert error_of(refused)[:2] == (403, "foreign_origin")
    assert len(client.get("/v1/tasks").json()["tasks"]) == before


def test_changes_from_its_own_page_are_taken(client: TestClient) -> None:
    head = {"origin": "http://127.0.0.1:8000", "host": "127.0.0.1:8000", "sec-fetch-site": "same-origin"}
    answer = client.post("/v1/tasks", json={}, headers=head)
    assert answer.status_code == 201
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_the_first_key_closes_the_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with client_of(create_app(Settings(tasks=tmp_path))) as client:
        task = make(client)
        secret, _ = Keys(client.app.state.service.engine).add("local")  # type: ignore[attr-defined]
        client.app.state.service.access._open_until = 0.0  # type: ignore[attr-defined]  # a second later
        assert error_of(client.get("/v1/tasks"))[0] == 401
        assert As(client, secret).get("/v1/tasks").json()["tasks"][0]["id"] == task


def test_others_without_a_key_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot listen on 0\.0\.0\.0: there is no key yet.*--add-key OWNER"):
        create_app(Settings(tasks=tmp_path, host="0.0.0.0"))


def test_without_its_packages(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "quickstudy.serve.settings", None)  # as if an import in it failed
    with pytest.raises(SystemExit, match="2"):
        main(["serve"])
    assert "which is not installed. Run pip install 'quickstudy[serve]'." in capsys.readouterr().err


def test_keys_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["serve", "--tasks", str(tmp_path), *arguments])
        said = capsys.readouterr()
        return int(ended.value.code or 0), said.out, said.err

    status, out, err = call("--add-key", "anna", "--expires", "2999-12-31")
    assert status == 0 and re.fullmatch(r"qs_[\w-]{43}\n", out) and "cannot be shown again" in err
    status, out, _ = call("--list-keys")
    id_ = out.split()[0]
    assert "anna" in out and "expires 2999-12-31" in out and "qs_" not in out
    assert call("--revoke-key", id_)[0] == 0
    assert "revoked" in call("--list-keys")[1]
    assert call("--revoke-key", "x")[0] == 2
    assert call("--expires", "2999-01-01") == (2, "", "error: --expires belongs to --add-key OWNER. Give both.\n")
    assert call("--learner", "x")[2] == "error: --learner: expected NAME=FOLDER, received 'x'.\n"
    assert "There is no limit called 'x'" in call("--limit", "x=1")[2]
