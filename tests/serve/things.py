"""Pictures, sounds and requests for the tests of the service."""

import base64
import contextlib
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import soundfile
from fastapi import FastAPI
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

LOCAL = "http://127.0.0.1:8000"


def client_of(app: FastAPI, **options: Any) -> TestClient:
    return TestClient(app, base_url=LOCAL, raise_server_exceptions=False, **options)


def drawing(shape: str, shift: int = 0, size: int = 48) -> bytes:
    """A PNG of a ring or of a stroke, dark on white."""
    sheet = Image.new("L", (size, size), 255)
    pen = ImageDraw.Draw(sheet)
    box = (8 + shift, 8, size - 10 + shift, size - 10)
    if shape == "ring":
        pen.ellipse(box, outline=0, width=4)
    else:
        pen.line((size // 2 + shift, 6, size // 2 + shift, size - 6), fill=0, width=4)
    held = io.BytesIO()
    sheet.save(held, "PNG")
    return held.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def tone(hertz: float, seconds: float = 0.5, rate: int = 8000, format: str = "WAV") -> bytes:
    held = io.BytesIO()
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)
    soundfile.write(held, wave, rate, format=format)
    return held.getvalue()


def shapes(*, n: int = 2, size: int = 48) -> list[dict[str, str]]:
    return [
        {"label": shape, "image": b64(drawing(shape, shift, size))}
        for shape in ("ring", "stroke")
        for shift in range(n)
    ]


def rows(n: int = 2) -> list[dict[str, Any]]:
    return [{"label": label, "row": [at + k, at]} for label, at in (("low", 0.0), ("high", 5.0)) for k in range(n)]


def make(client: Any, examples: list[dict[str, Any]] | None = None, **task: Any) -> str:
    """A new task's id; with examples, if there are any."""
    made = client.post("/v1/tasks", json=task)
    assert made.status_code == 201, made.text
    id_: str = made.json()["id"]
    if examples:
        added = client.post(f"/v1/tasks/{id_}/examples", json={"examples": examples})
        assert added.status_code == 201, added.text
    return id_


def error_of(response: Any) -> tuple[int, str, str]:
    """Status, code, sentence: the form that every error has."""
    assert set(response.json()) == {"error"} and set(response.json()["error"]) == {"code", "message"}, response.text
    assert response.headers["content-type"] == "application/json"
    message = response.json()["error"]["message"]
    assert "Traceback" not in message and message.endswith(".")
    return response.status_code, response.json()["error"]["code"], message


class Process:
    """`quickstudy serve` in a process of its own."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "quickstudy", "serve", "--tasks", str(folder), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
        self.popen = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )
        assert self.popen.stderr is not None
        line = self.popen.stderr.readline()
        found = re.match(r"quickstudy answers at (http://\S+) ", line)
        if found is None:
            self.popen.wait(30)
            raise AssertionError(line + self.popen.stderr.read())
        self.address = found[1]
        self.client = httpx.Client(base_url=self.address, timeout=60)

    def kill(self) -> None:
        """As the power goes."""
        self.popen.send_signal(signal.SIGKILL)
        self.end()

    def stop(self) -> tuple[int, str]:
        """As an operator does; status and stderr."""
        self.popen.send_signal(signal.SIGTERM)
        return self.end()

    def end(self) -> tuple[int, str]:
        self.client.close()
        _, said = self.popen.communicate(timeout=40)
        return self.popen.returncode, said


@contextlib.contextmanager
def served(folder: Path, *options: str) -> Iterator[Process]:
    process = Process(folder, "--port", "0", *options)
    try:
        yield process
    finally:
        if process.popen.poll() is None:
            process.kill()
