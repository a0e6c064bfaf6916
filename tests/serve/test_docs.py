"""docs/service.md is what the service does."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
import uvicorn
from prometheus_client.parser import text_string_to_metric_families

from quickstudy.serve import Limits, Settings, create_app
from quickstudy.serve.metrics import Metrics
from quickstudy.serve.routes_about import router as about
from quickstudy.serve.routes_answers import router as answers
from quickstudy.serve.routes_files import router as files
from quickstudy.serve.routes_tasks import router as tasks

PAGE = (Path(__file__).parents[2] / "docs" / "service.md").read_text("utf-8")


def test_the_table_of_limits() -> None:
    printed = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
    assert printed == [
        (one.name.replace("_", "-"), f"{one.default:,}", one.metadata["about"]) for one in fields(Limits)
    ]


def test_every_address_is_described() -> None:
    printed = {
        (method, re.sub(r"\?.*", "", path))
        for methods, paths in re.findall(r"^\| `(GET|POST|PATCH|PUT|DELETE) ([^`]+)`", PAGE, flags=re.MULTILINE)
        for method, path in [(methods, paths)]
    }
    there = {
        (method, re.sub(":path", "", route.path))  # type: ignore[attr-defined]
        for router in (tasks, answers, files)
        for route in router.routes
        for method in route.methods  # type: ignore[attr-defined]
    }
    assert there == {pair for pair in printed if pair[1].startswith("/v1/")}
    for route in about.routes:
        assert f"`{route.path}`" in PAGE or f"`GET {route.path}`" in PAGE  # type: ignore[attr-defined]


def test_every_metric_is_named() -> None:
    metrics = Metrics()
    for family in text_string_to_metric_families(metrics.text().decode()):
        if not family.name.endswith("_created"):
            assert f"`{family.name}`" in PAGE or f"`{family.name}_total`" in PAGE, family.name


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    server = uvicorn.Server(
        uvicorn.Config(create_app(Settings(tasks=tmp_path)), port=0, ws="none", http="h11", log_level="critical")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join(timeout=20)


def test_the_examples(address: str) -> None:
    """The page's Python and its first curl commands, sent to a service that listens elsewhere."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", program.replace("127.0.0.1:8000", address)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("high\n", "")
    bodies = re.findall(r"localhost:8000(\S+) --json '(.*?)'", PAGE, flags=re.DOTALL)
    assert len(bodies) == 3
    with httpx.Client(base_url=f"http://{address}", timeout=60) as client:
        task = ""
        for path, body in bodies:
            answer = client.post(
                path.replace("$task", task), content=body, headers={"content-type": "application/json"}
            )
            assert answer.is_success, answer.text
            task = task or answer.json()["id"]
        assert answer.json()["answers"][0]["label"] == "glad"
