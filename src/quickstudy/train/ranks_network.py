"""Floor 4: over which of a machine's networks its ranks speak with those of other machines.

torch takes the address that the machine's own name stands for, which is often a loopback address, or none at all. The
network over which the meeting place is reached is one that all ranks share.
"""

from __future__ import annotations

import array
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.distributed import Store  # type: ignore[attr-defined]

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["interface_of", "own_address", "seen_address", "speaking_over"]

_VARIABLE = "GLOO_SOCKET_IFNAME"
_ASKS_FOR_AN_ADDRESS = 0x8915  # SIOCGIFADDR of Linux


def seen_address(store: Store, rank: int, size: int, host: str) -> str | None:
    """The address at which other ranks see this machine; None where that is not known.

    Args:
        store: in which the ranks meet.
        rank: 0 .. size-1.
        size: how many there are.
        host: where they meet. It is often this machine, and then the others say which of its addresses they see.
    """
    address = own_address(host)
    store.set(f"address/{rank}", address or "")
    if address is not None and not _is_loopback(address):
        return address
    addresses = (store.get(f"address/{other}").decode() for other in range(size) if other != rank)
    outside = next((each for each in addresses if each and not _is_loopback(each)), None)
    return address if outside is None else own_address(outside)


@contextmanager
def speaking_over(address: str | None) -> Iterator[None]:
    """While it lasts torch takes the network that has this address of ours; the one that a user names comes first."""
    interface = None if address is None or os.environ.get(_VARIABLE) else interface_of(address)
    if interface is None:
        yield
        return
    os.environ[_VARIABLE] = interface
    try:
        yield
    finally:
        os.environ.pop(_VARIABLE, None)


def own_address(host: str) -> str | None:
    """The address of this machine that ``host`` sees; None where there is no way to it. Nothing is sent.

    >>> own_address("127.0.0.1")
    '127.0.0.1'
    """
    try:
        found = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)
    except OSError:
        return None
    for family, kind, protocol, _, place in found:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.connect(place)
                return str(probe.getsockname()[0])
        except OSError:
            continue
    return None


def interface_of(address: str) -> str | None:
    """The name of the network interface that has an address, as Linux knows it; None where it is not found."""
    loopback = _is_loopback(address)
    for _, name in socket.if_nameindex():
        if (loopback and name.startswith("lo")) or address in _addresses(name):
            return name
    return None


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


def _addresses(interface: str) -> list[str]:
    found = []
    if fcntl is not None:
        request = array.array("B", struct.pack("256s", interface.encode()[:15]))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                fcntl.ioctl(probe, _ASKS_FOR_AN_ADDRESS, request)
                found.append(socket.inet_ntoa(request.tobytes()[20:24]))
            except OSError:  # it has none of this kind, or this is not Linux
                pass
    table = Path("/proc/net/if_inet6")
    lines = table.read_text().splitlines() if table.exists() else []
    words = [line.split() for line in lines]
    return found + [str(ipaddress.IPv6Address(bytes.fromhex(each[0]))) for each in words if each[-1] == interface]
