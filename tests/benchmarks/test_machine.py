"""What is kept of the machine and the code that a row was measured with."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed import machine

CPUINFO = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 17
model name\t: AMD EPYC
stepping\t: 1
cpu MHz\t\t: 2596.130

processor\t: 1
model\t\t: 99
cpu MHz\t\t: 3100.5
"""


def test_the_processor_by_its_numbers() -> None:
    found = machine.processor(CPUINFO)
    assert found == {"processor": "AMD EPYC", "family": "25", "model": "17", "stepping": "1", "mhz": 3100.5}
    assert machine.processor("Features : fp asimd") == {}


def test_the_commit_and_whether_what_is_measured_was_changed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "ROOT", tmp_path)
    assert machine.source() == {"commit": None, "changed": None}

    def git(*arguments: str) -> None:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True)

    for folder in ("src", "benchmarks/results", "tests/peers"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_text("1")
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    found = machine.source()
    assert len(str(found["commit"])) == 40 and found["changed"] is False
    (tmp_path / "benchmarks" / "results" / "W1.json").write_text("{}")
    (tmp_path / "benchmarks" / "RESULTS.md").write_text("page")
    assert machine.source() == found
    (tmp_path / "src" / "b.py").write_text("2")
    assert machine.source() == found | {"changed": True}


def test_c_files_are_compiled_into_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    caches: list[Path] = []

    def run(command: list[str], env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        caches.append(Path(env["QUICKSTUDY_CACHE"]))
        assert command[-1] == "compile" and list(caches[0].iterdir()) == []
        return subprocess.CompletedProcess(command, 0, stdout="12.5")

    monkeypatch.setattr("benchmarks.speed.machine.subprocess.run", run)
    assert machine.compile_seconds() == 12.5
    assert not caches[0].exists()


def test_every_c_file_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[Path] = []
    monkeypatch.setattr("quickstudy.native.library", found.append)
    assert machine._compile() >= 0
    assert {path.name for path in found} >= {"winograd.c", "chain.c", "keys.c", "gather.c"}
