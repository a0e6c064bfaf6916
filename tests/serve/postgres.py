"""A PostgreSQL of one's own in a temporary folder, where its programs are installed."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

FOLDERS = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)  # Debian's, which are not on the path


def program(name: str) -> str | None:
    found = shutil.which(name)
    return found or next((str(folder / name) for folder in FOLDERS if (folder / name).is_file()), None)


@contextlib.contextmanager
def running() -> Iterator[str]:
    """Its address; the test is skipped where there is none."""
    initdb, server = program("initdb"), program("postgres")
    if initdb is None or server is None:
        pytest.skip("no PostgreSQL: neither on the path nor in /usr/lib/postgresql")
    with tempfile.TemporaryDirectory(prefix="quickstudy-pg-", ignore_cleanup_errors=True) as folder:
        place = Path(folder)
        as_user: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to be run by root
            user = next((name for name in ("postgres", "nobody") if _known(name)), None)
            if user is None:
                pytest.skip("PostgreSQL does not run as root, and there is no other user")
            os.chown(place, pwd.getpwnam(user).pw_uid, -1)
            as_user = {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}
        options: dict[str, Any] = {"cwd": folder, "env": {**os.environ, "LC_ALL": "C", "HOME": folder}, **as_user}
        data = str(place / "data")
        made = subprocess.run(
            [initdb, "-D", data, "-U", "quickstudy", "-A", "trust", "--no-sync", "-E", "UTF8"],
            capture_output=True, text=True, check=False, **options,
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        command = [server, "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-c", "max_connections=60"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, **options)
        try:
            _wait(port, process)
            yield f"postgresql://quickstudy@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGQUIT)
            process.communicate(timeout=20)


def _known(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _wait(port: int, process: "subprocess.Popen[str]") -> None:
    import psycopg

    for _ in range(200):
        assert process.poll() is None, process.communicate()[1]
        try:
            psycopg.connect(f"host=127.0.0.1 port={port} user=quickstudy dbname=postgres").close()
        except psycopg.OperationalError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("PostgreSQL did not start within 10 seconds")
