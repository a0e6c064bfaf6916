"""Requests made up from the service's own description: whatever is sent, no 5xx, and answers as described.

Half of the addresses that are made up name a task, an example and a class that there are, so that what lies behind
them is reached, too.
"""

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
import uvicorn
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from quickstudy.serve import Limits, Settings, create_app
from tests.serve.things import make, rows

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]
OPERATIONS = 18


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """One that listens, in a thread."""
    limits = Limits(requests_per_second=1_000_000, tasks_per_owner=1_000_000)
    app = create_app(Settings(tasks=tmp_path_factory.mktemp("fuzz"), limits=limits))
    server = uvicorn.Server(uvicorn.Config(app, port=0, ws="none", http="h11", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(timeout=20)


@pytest.fixture(scope="module")
def described(service: httpx.Client) -> Any:
    return schemathesis.openapi.from_dict(service.get("/openapi.json").json())


def fuzz(service: httpx.Client, described: Any, examples: int) -> int:
    """So many made-up requests of each address; how many addresses."""
    operations = [found.ok() for found in described.get_all_operations()]
    for number, operation in enumerate(operations):

        @hypothesis.seed(number)
        @hypothesis.settings(
            max_examples=examples,
            deadline=None,
            database=None,
            derandomize=False,
            suppress_health_check=list(hypothesis.HealthCheck),
        )
        @hypothesis.given(case=operation.as_strategy(), there=hypothesis.strategies.booleans())
        def one(case: Any, there: bool) -> None:
            if there and "task" in (case.path_parameters or {}):
                task = make(service, rows(), learner="knn")
                example = service.get(f"/v1/tasks/{task}/examples").json()["examples"][0]["id"]
                known = {"task": task, "example": example, "label": "low"}
                case.path_parameters = {name: known[name] for name in case.path_parameters}
            case.call_and_validate(base_url=str(service.base_url), checks=CHECKS)

        one()
    return len(operations)


def test_made_up_requests(service: httpx.Client, described: Any) -> None:
    assert fuzz(service, described, 5) >= OPERATIONS
    # It got behind the doors: most addresses answered something.
    answered = re.findall(r'route="(/v1/\S+)",status="20\d"', service.get("/metrics").text)
    assert len(set(answered)) >= 6, answered


@pytest.mark.slow
def test_many_made_up_requests(service: httpx.Client, described: Any) -> None:
    fuzz(service, described, 1000)
