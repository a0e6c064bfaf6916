"""Floor 4: ranks that somebody else has started, on one machine or on several: torchrun, or SLURM's srun.

    torchrun --nnodes 2 --nproc-per-node 4 ... -m quickstudy train RECIPE
    srun --ntasks 8 quickstudy train RECIPE

Every process finds in its environment which rank it is and where the ranks meet.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]

from quickstudy.errors import InputError, RunError
from quickstudy.train.ranks import ProcessRanks
from quickstudy.train.ranks_network import seen_address, speaking_over
from quickstudy.train.ranks_rollcall import Called, RollCall

__all__ = ["Seat", "joined", "seat"]

_MEETING = timedelta(minutes=10)  # for the processes of all machines to be there
_LEAVING = timedelta(minutes=1)
_PATIENCE = 30.0  # minutes without a word, after which another rank is taken for lost
PATIENCE = "QUICKSTUDY_RANKS_TIMEOUT"


@dataclass(frozen=True)
class Seat:
    """Where this process sits among its ranks.

    Args:
        rank: 0 .. size-1.
        size: how many there are.
        local: which of its machine's it is.
        host: where ranks meet.
        port: likewise.
        hosts_store: whether this process keeps the store in which they meet, and not who started it.
        start: how often the ranks were started before.
        job: names what was started, the same after each start.
    """

    rank: int
    size: int
    local: int
    host: str
    port: int
    hosts_store: bool
    start: int
    job: str


def seat(environment: Mapping[str, str]) -> Seat | None:
    """What torchrun or srun says of this process; None where it is alone.

    Raises:
        InputError: something is missing, or no number.
    """
    if {"RANK", "WORLD_SIZE", "MASTER_ADDR"} <= environment.keys():
        keys, by = ("RANK", "WORLD_SIZE", "LOCAL_RANK"), "torchrun"
    elif {"SLURM_PROCID", "SLURM_STEP_NUM_TASKS"} <= environment.keys():  # set by srun, and not in a batch script
        keys, by = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID"), "SLURM"
    else:
        return None
    rank, size, local = (_number(environment, key, by) for key in keys)
    if size < 2:
        return None
    if not 0 <= rank < size:
        raise InputError(f"{by} says that this is rank {rank} of {size}. Ranks are numbered from 0 to {size - 1}.")
    if by == "torchrun":
        host, port = environment["MASTER_ADDR"], _port(environment, by)
        job = f"{environment.get('TORCHELASTIC_RUN_ID', 'none')}@{host}:{port}"
        start = _number({"TORCHELASTIC_RESTART_COUNT": "0"} | dict(environment), "TORCHELASTIC_RESTART_COUNT", by)
        kept = environment.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        return Seat(rank, size, local, host, port, rank == 0 and not kept, start, job)
    environment = {"SLURM_JOB_ID": "0", "SLURM_STEP_ID": "0", "SLURM_RESTART_COUNT": "0"} | dict(environment)
    number, step = _number(environment, "SLURM_JOB_ID", by), environment["SLURM_STEP_ID"]
    host = environment.get("MASTER_ADDR") or first_host(environment.get("SLURM_STEP_NODELIST", "localhost"))
    usual = 20000 + (number * 17 + int(step if step.isdigit() else 0)) % 20000
    port = _port(environment, by) if "MASTER_PORT" in environment else usual
    start = _number(environment, "SLURM_RESTART_COUNT", by)
    return Seat(rank, size, local, host, port, rank == 0, start, f"slurm-{number}.{step}")


def _port(environment: Mapping[str, str], by: str) -> int:
    port = _number(environment, "MASTER_PORT", by)
    if not 0 < port < 1 << 16:
        raise InputError(f"Cannot join the ranks that {by} started: MASTER_PORT is {port}, and ports end at 65535.")
    return port


def _number(environment: Mapping[str, str], key: str, by: str) -> int:
    given = environment.get(key)
    if given is None or not given.isdigit():
        raise InputError(
            f"Cannot join the ranks that {by} started: {key} is {'not set' if given is None else repr(given)} in the "
            "environment, where a number is expected. Start all processes by torchrun or srun."
        )
    return int(given)


def first_host(nodes: str) -> str:
    """The first of SLURM's list of nodes.

    >>> first_host("node[008-011,17],gpu1"), first_host("a1,a2"), first_host("rack[2,4]-n[1-3]")
    ('node008', 'a1', 'rack2-n1')
    """
    first = re.match(r"(?:[^,\[]|\[[^\]]*\])*", nodes)
    return re.sub(r"\[(\d+)[^\]]*\]", r"\1", first.group() if first else nodes)


@contextmanager
def joined(place: Seat, device: torch.device) -> Iterator[ProcessRanks]:
    """Among the other ranks; a group that is there already is used and left as it is.

    Args:
        place: of this process.
        device: where it will compute; on a GPU ranks speak by NCCL.

    Raises:
        InputError: the time-out in the environment is no number.
        RunError: the others did not come.
    """
    name = f"rank {place.rank} of {place.size}, on {socket.gethostname()}"
    if dist.is_initialized():
        yield ProcessRanks(name=name)
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    store, address = _meet(place, device)
    roll = RollCall(place.rank, address)
    roll.begin(ProcessRanks(name=name).exchange(Called(name, roll.place)))
    try:
        yield ProcessRanks(name=name, missing=roll.missing)
    finally:
        roll.end()
    # Not after an error: ranks that wait for this one hear that it is gone when the process ends.
    _part(place, store)


def _part(place: Seat, store: Store) -> None:
    """Leave the group; the rank that keeps the store goes last, as the others would stumble over its end."""
    dist.destroy_process_group()
    store.set(f"left/{place.rank}", "")
    if place.rank == 0:
        try:
            store.wait([f"left/{rank}" for rank in range(place.size)], _LEAVING)
        except RuntimeError:  # one of them was killed after its work was done
            return


def _meet(place: Seat, device: torch.device) -> tuple[Store, str | None]:
    """Join the default group: the store in which it met, and the address at which others see this machine."""
    patience = _patience()
    try:
        kept = TCPStore(place.host, place.port, is_master=place.hosts_store, timeout=min(_MEETING, patience))
        # What a rank that was killed left there would mislead those that are started after it.
        store = PrefixStore(f"quickstudy/{place.start}", kept)
        address = seen_address(store, place.rank, place.size, place.host)
        with speaking_over(address):
            dist.init_process_group(
                "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo",
                store=store,
                rank=place.rank,
                world_size=place.size,
                timeout=patience,
            )
    except (RuntimeError, ValueError) as error:  # torch's errors of stores and of groups are of the first kind
        said = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise RunError(
            f"Rank {place.rank} of {place.size} (on {socket.gethostname()}) could not meet the others at {place.host}:"
            f"{place.port}: {said}. See that all processes were started, and that this address can be reached."
        ) from error
    return store, address


def _patience() -> timedelta:
    given = os.environ.get(PATIENCE, str(_PATIENCE))
    try:
        patience = timedelta(minutes=float(given))
    except (ValueError, OverflowError):
        patience = timedelta(0)
    if patience <= timedelta(0):
        raise InputError(f"{PATIENCE} must be a number of minutes above 0, received {given!r}.")
    return patience
