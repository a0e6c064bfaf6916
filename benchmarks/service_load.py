"""How fast the service answers: queries of 5-way tasks by the prototypical network that comes with the package.

    python benchmarks/service_load.py                  # 50 requests a second, for 20 seconds
    python benchmarks/service_load.py --rate 100 --users 16

The service is a process of its own, reached over the loopback address; so is this client, on the same processors.
Requests are sent at fixed times, whether or not earlier ones were answered (an open loop), and a request's time is
counted from when it should have been sent. Each user has a task of its own; `--at-once` sends that many at one moment,
which is when answers are computed together.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from typing import Any

import httpx
import numpy as np
from PIL import Image, ImageDraw

WAY, SHOT = 5, 5


def drawing(number: int, variant: int) -> str:
    """Class ``number``: a polygon of as many corners; base64 of a PNG."""
    rng = np.random.default_rng([number, variant])
    sheet = Image.new("L", (64, 64), 255)
    angles = np.linspace(0, 2 * np.pi, number + 3, endpoint=False) + rng.normal(0, 0.1)
    corners = [(32 + 22 * np.cos(a) + rng.normal(), 32 + 22 * np.sin(a) + rng.normal()) for a in angles]
    ImageDraw.Draw(sheet).polygon(corners, outline=0, width=3)
    held = io.BytesIO()
    sheet.save(held, "PNG")
    return base64.b64encode(held.getvalue()).decode()


def serve(folder: str) -> tuple[subprocess.Popen[str], str]:
    """The service, and its address once it is ready."""
    command = [sys.executable, "-m", "quickstudy", "serve", "--tasks", folder, "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    if found is None:
        raise SystemExit(line)
    while httpx.get(f"{found[0]}/ready").status_code != 200:
        time.sleep(0.2)
    return process, found[0]


async def make_tasks(client: httpx.AsyncClient, users: int) -> list[str]:
    """A task of five classes for each user."""
    found = []
    for user in range(users):
        task = (await client.post("/v1/tasks", json={"learner": "drawings"})).json()["id"]
        examples = [
            {"label": f"{number + 3} corners", "image": drawing(number, 100 * user + shot)}
            for number in range(WAY)
            for shot in range(SHOT)
        ]
        added = await client.post(f"/v1/tasks/{task}/examples", json={"examples": examples})
        assert added.status_code == 201, added.text
        found.append(task)
    return found


async def load(address: str, given: argparse.Namespace) -> dict[str, Any]:
    """Send requests; the times of their answers in milliseconds."""
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=60) as client:
        tasks = await make_tasks(client, given.users)
        queries = [drawing(number % WAY, 10_000 + number) for number in range(50)]
        right = 0

        async def ask(number: int, due: float) -> float:
            nonlocal right
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            body = {"queries": [{"image": queries[number % len(queries)]}]}
            answer = await client.post(f"/v1/tasks/{tasks[number % len(tasks)]}/classify", json=body)
            assert answer.status_code == 200, answer.text
            right += answer.json()["answers"][0]["label"] == f"{number % len(queries) % WAY + 3} corners"
            return 1000 * (time.perf_counter() - due)

        for number in range(2 * given.users):  # not counted: the first query of each task
            await ask(number, time.perf_counter())
        right = 0
        total = int(given.rate * given.seconds) // given.at_once * given.at_once
        first = time.perf_counter() + 0.2
        gap = given.at_once / given.rate
        asked = [ask(number, first + gap * (number // given.at_once)) for number in range(total)]
        times = np.array(await asyncio.gather(*asked))
        metrics = (await client.get("/metrics")).text
    together = {
        name: float(re.search(rf"quickstudy_tasks_together_{name} (\S+)", metrics)[1]) for name in ("sum", "count")
    }  # type: ignore[index]
    return {
        "requests": total,
        "right": round(right / total, 3),
        "milliseconds": {f"p{p}": round(float(np.percentile(times, p)), 1) for p in (50, 95, 99)},
        "longest": round(float(times.max()), 1),
        "tasks a call, mean over queries": round(float(together["sum"]) / float(together["count"]), 2),
    }


def main() -> None:
    """Print what was measured, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--users", type=int, default=1, help="each with a task of its own")
    parser.add_argument("--at-once", type=int, default=1, help="requests that are sent at one moment")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        process, address = serve(folder)
        try:
            before = os.getloadavg()[0]
            found = asyncio.run(load(address, given))
        finally:
            process.terminate()
            process.communicate(timeout=60)
    about = {
        "machine": f"{platform.machine()}, {os.cpu_count()} processors, Python {platform.python_version()}",
        "load before": round(before, 1),
        "task": f"{WAY}-way {SHOT}-shot, learner drawings (a prototypical network)",
        "settings": vars(given),
    }
    print(json.dumps({**about, **found}, indent=2))


if __name__ == "__main__":
    main()
