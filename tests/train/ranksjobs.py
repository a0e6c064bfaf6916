"""What ranks are asked to do in tests: functions of a module, as they run in other processes."""

from __future__ import annotations

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import torch

from quickstudy.train.callbacks import StepEvent
from quickstudy.train.ranks import AbstractRanks
from quickstudy.train.ranks_worker import Relay, Starter


def look_around(ranks: AbstractRanks, starter: Starter) -> list[dict[str, Any]]:
    """What each rank sees of itself and the others."""
    del starter
    total = torch.full((3,), float(ranks.rank + 1))
    ranks.add(total)
    return ranks.exchange(
        {
            "rank": ranks.rank,
            "pid": os.getpid(),
            "sum": total.tolist(),
            "any": [ranks.any(ranks.rank == 1), ranks.any(False), ranks.asked_to_stop(False)],
            "threads": torch.get_num_threads(),
            "listens": listening(os.getpid()) + listening(os.getppid()),
            "parent": os.getppid(),
            "interfaces": {os.environ["GLOO_SOCKET_IFNAME"], os.environ["NCCL_SOCKET_IFNAME"]},
        }
    )


def listening(pid: int) -> list[str]:
    """Addresses at which a process waits for connections, as Linux knows them."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            mine.add(os.readlink(entry).removeprefix("socket:[").removesuffix("]"))
        except FileNotFoundError:
            pass
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A" and parts[9] in mine:
                found.append(parts[1].split(":")[0])
    return found


def fail_on_second(ranks: AbstractRanks, starter: Starter, folder: Path) -> None:
    """Rank 1 fails where nobody looks after it; rank 0 waits for it."""
    del starter
    (folder / f"{ranks.rank}-{os.environ['TORCHELASTIC_RESTART_COUNT']}").touch()
    if ranks.rank == 1:
        raise LookupError("rank 1 has lost its way")
    ranks.exchange(None)


def die_until(ranks: AbstractRanks, starter: Starter, start: int) -> int:
    """Tell of two steps, then rank 1 is killed; unless the ranks were started so often before."""
    now = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    if ranks.rank == 0:
        warnings.warn("told once", stacklevel=1)
        os.write(2, b"printed by a rank")
        for step in range(1, 3 + now):
            Relay(starter).step(StepEvent(step, 9, {"loss": 0.0}, 0.1))
    ranks.exchange(None)
    if ranks.rank == 1 and now < start:
        os.kill(os.getpid(), signal.SIGKILL)
    ranks.exchange(None)
    return now


def want_memory(ranks: AbstractRanks, starter: Starter) -> None:
    """Rank 1 has not the memory to exchange anything."""
    del starter

    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory, tried to allocate 20 GiB.\nAnd hints.")

    if ranks.rank == 1:
        torch.distributed.all_gather_object = full  # type: ignore[assignment]
    ranks.exchange(None)


def tell_steps(ranks: AbstractRanks, starter: Starter) -> None:
    """Rank 0 tells of steps, until a callback fails."""
    if ranks.rank == 0:
        for step in range(1, 100):
            Relay(starter).step(StepEvent(step, 100, {"loss": 0.0}, 0.1))
    ranks.exchange(None)
