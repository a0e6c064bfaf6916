"""Machines for tests: network namespaces of Linux with names and addresses of their own, joined by a cable."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

__all__ = ["Machine", "can_make_machines", "two_machines"]


@dataclass(frozen=True)
class Machine:
    """One of them.

    Args:
        name: its host name, which stands for no address, as on many a real one.
        address: on the cable.
        cable: the name of its end.
        pid: of the process that keeps it.
    """

    name: str
    address: str
    cable: str
    pid: int

    def command(self, *command: str, named: bool = True) -> list[str]:
        """The same command, run there; under the name of the machine beneath where ``named`` is False."""
        return ["nsenter", "--target", str(self.pid), "--net", *(["--uts"] if named else []), *command]

    def run(self, *command: str) -> None:
        """Run it there, until it ends."""
        subprocess.run(self.command(*command), check=True, capture_output=True)

    def unplug(self) -> None:
        """Nothing comes in or goes out any more, and nobody is told."""
        self.run("ip", "link", "set", self.cable, "down")


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two that see each other, and nothing else."""
    keepers = [subprocess.Popen(["unshare", "--net", "--uts", "cat"], stdin=subprocess.PIPE) for _ in range(2)]
    try:
        ends = [
            Machine(f"node{number}", f"10.9.0.{number}", f"cable{number}", keeper.pid)
            for number, keeper in enumerate(keepers, 1)
        ]
        first, second = ends
        _wait_for_namespaces(ends)
        second_end = ("peer", "name", second.cable, "netns", str(second.pid))
        first.run("ip", "link", "add", "name", first.cable, "type", "veth", *second_end)
        for machine in ends:
            machine.run("hostname", machine.name)
            machine.run("ip", "address", "add", f"{machine.address}/24", "dev", machine.cable)
            machine.run("ip", "link", "set", machine.cable, "up")
            machine.run("ip", "link", "set", "lo", "up")
        yield first, second
    finally:
        for keeper in keepers:
            keeper.communicate()  # the end of its input is its own
            keeper.wait()


def _wait_for_namespaces(machines: list[Machine]) -> None:
    """Until their processes have left the namespaces of this one."""
    here = _namespaces("self")
    while any(set(_namespaces(machine.pid)) & set(here) for machine in machines):
        pass


def _namespaces(pid: int | str) -> list[str]:
    found = subprocess.run(
        ["readlink", f"/proc/{pid}/ns/net", f"/proc/{pid}/ns/uts"], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


@cache
def can_make_machines() -> bool:
    """Whether this process may: on Linux, as root, with the tools for it and a kernel that has such cables."""
    if not sys.platform.startswith("linux") or not all(map(shutil.which, ("unshare", "nsenter", "ip", "hostname"))):
        return False
    cable = "ip link add name cable1 type veth peer name cable2"
    return subprocess.run(["unshare", "--net", "--uts", "sh", "-c", cable], capture_output=True).returncode == 0
