"""Models by name: a hub on this machine that speaks as the real one does, and what is said when it does not give."""

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.nets.encoders import PLACES, VOCABULARY, saved, with_tokenizer

pytest.importorskip("transformers")

COMMIT = "1" * 40
LOADS = f"""
import sys
from quickstudy.data.tokens import HubTokens
from quickstudy.errors import InputError
from quickstudy.nets.hftext import HFText
example = {{"input_ids": ({PLACES},), "attention_mask": ({PLACES},)}}
for name in sys.argv[1:]:
    for load in (lambda: HubTokens(name), lambda: HFText(example, {VOCABULARY}, model=name)):
        try:
            print(type(load()).__name__)
        except InputError as error:
            print(error)
"""


@contextmanager
def hub(folder: Path) -> Iterator[str]:
    """Gives out the files of ``folder`` as ``us/encoder``; ``us/gated`` it gives to nobody, others it has not."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.partition("?")[0].strip("/")
            name = "/".join(path.removeprefix("api/models/").split("/")[:2])
            if name != "us/encoder":
                status, code = (403, "GatedRepo") if name == "us/gated" else (401, "RepoNotFound")
                return self.answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": "no"})
            if path.startswith("api/models/") and "/tree/" in path:
                tree = [
                    {"type": "file", "path": name, "size": len(content), "oid": _tag(content)}
                    for name, content in files.items()
                ]
                return self.answer(200, json.dumps(tree).encode())
            if path.startswith("api/models/"):
                siblings = [{"rfilename": name} for name in files]
                return self.answer(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            content = files.get(path.rpartition("/")[2])
            if content is None:
                return self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
            return self.answer(200, content, {"ETag": f'"{_tag(content)}"', "X-Repo-Commit": COMMIT})

        do_HEAD = do_GET

        def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **(headers or {})}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def said(tmp_path: Path, *names: str, **environment: str) -> list[str]:
    """What loading a tokenizer and a network of each name says, in a process of its own with an empty cache."""
    known = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    variables = known | {"HF_HOME": str(tmp_path / "cache"), "HF_HUB_DISABLE_XET": "1", **environment}
    command = [sys.executable, "-c", LOADS, *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_models_of_a_hub(tmp_path: Path) -> None:
    folder = with_tokenizer(saved("bert", tmp_path / "encoder"), (f"word{n}" for n in range(VOCABULARY - 4)))
    with hub(folder) as address:
        lines = said(tmp_path, "us/encoder", "us/gated", "us/nothing", HF_ENDPOINT=address)
        # What was downloaded is there when the hub is not.
        later = said(tmp_path, "us/encoder", HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
    assert lines[:2] == later == ["HubTokens", "HFText"]
    for what, line in zip(("tokenizer", "network"), lines[2:4], strict=True):
        assert line == (
            f"Cannot load the {what} 'us/gated': its authors give it only to those who accepted their terms. Accept "
            "them at https://huggingface.co/us/gated, and run: hf auth login."
        )
    for what, line in zip(("tokenizer", "network"), lines[4:6], strict=True):
        assert line == (
            f"Cannot load the {what} 'us/nothing': there is no folder of that name, and no such model on the Hugging "
            "Face hub, or it is a private one. Check the name; for a private one run: hf auth login."
        )


NOBODY = {"HF_ENDPOINT": "http://127.0.0.1:9"}  # which the hub's client calls again and again, for a minute


@pytest.mark.parametrize("environment", [{"HF_HUB_OFFLINE": "1"}, pytest.param(NOBODY, marks=pytest.mark.e2e)])
def test_no_hub(environment: dict[str, str], tmp_path: Path) -> None:
    for what, line in zip(("tokenizer", "network"), said(tmp_path, "us/encoder", **environment), strict=True):
        assert line == (
            f"Cannot load the {what} 'us/encoder': there is no folder of that name, and the Hugging Face hub cannot be "
            "reached. Go online; or run hf download us/encoder --local-dir DIR where that is possible, and give the "
            "folder."
        )
