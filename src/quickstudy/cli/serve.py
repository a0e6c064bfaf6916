"""Floor 7: ``quickstudy serve``: the service, and its keys."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.cli.process import set_threads
from quickstudy.errors import InputError

if TYPE_CHECKING:
    from quickstudy.serve.access import Keys
    from quickstudy.serve.settings import Settings

__all__ = ["serve"]


def serve(
    tasks: Annotated[Path, typer.Option(help="The folder to keep tasks in.")] = Path("quickstudy-tasks"),
    database: Annotated[
        str | None,
        typer.Option(
            envvar="QUICKSTUDY_DATABASE",
            help="PostgreSQL in place of the folder, for several replicas: postgresql://USER@HOST/NAME.",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on; another one than this machine's needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any that is free.")] = 8000,
    learner: Annotated[
        list[str] | None,
        typer.Option(help="NAME=FOLDER of a saved learner or a run that clients may ask for; may be repeated."),
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(help="NAME=NUMBER, such as pixels=4000000; may be repeated. See docs/service.md."),
    ] = None,
    warm: Annotated[
        bool, typer.Option(help="Load learners at the start, before /ready says so, rather than when first asked for.")
    ] = True,
    add_key: Annotated[
        str | None, typer.Option(metavar="OWNER", help="Make a key for OWNER, print it, and end.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="With --add-key: the date from which it opens nothing.")] = None,
    list_keys: Annotated[bool, typer.Option("--list-keys", help="List the keys, and end.")] = False,
    revoke_key: Annotated[str | None, typer.Option(metavar="ID", help="Make a key useless, and end.")] = None,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Answer over HTTP: tasks of one's own, taught by a few examples, for programs and, in a browser, for people."""
    del debug  # read by `outcome`
    set_threads()
    settings = _settings(tasks, database, host, port, learner or (), limit or (), warm)
    if expires is not None and add_key is None:
        raise InputError("--expires belongs to --add-key OWNER. Give both.")
    if add_key is not None or list_keys or revoke_key is not None:
        _keys(settings, add_key, expires, revoke_key, json)
        return
    from quickstudy.serve.running import run_service

    kept = "a database" if database is not None else f"{tasks}/"

    def listening(address: str) -> None:
        typer.echo(f"quickstudy answers at {address} (tasks in {kept}; Ctrl-C stops it)", err=True)

    run_service(settings, listening)


def _settings(
    tasks: Path, database: str | None, host: str, port: int, learner: Iterable[str], limit: Iterable[str], warm: bool
) -> Settings:
    try:
        from quickstudy.serve.settings import Limits, Settings
    except ModuleNotFoundError as error:
        raise InputError(
            f"The service needs the package {error.name}, which is not installed. Run pip install 'quickstudy[serve]'."
        ) from error
    own: dict[str, Path] = {}
    for text in learner:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise InputError(f"--learner: expected NAME=FOLDER, received {text!r}.")
        own[name] = Path(folder)
    return Settings(tasks, database, host, port, Limits().changed(limit), own, warm=warm)


def _keys(settings: Settings, add: str | None, expires: str | None, revoke: str | None, json: bool) -> None:
    from quickstudy.serve.access import Keys
    from quickstudy.serve.tables import open_database

    keys = Keys(open_database(settings.tasks, settings.database))
    if add is not None:
        secret, key = keys.add(add, expires)
        if json:
            one_json({"id": key.id, "owner": key.owner, "expires": key.expires, "key": secret})
            return
        typer.echo(secret)
        typer.echo(f"the key {key.id} of {key.owner}; it is not kept and cannot be shown again", err=True)
    elif revoke is not None:
        key = keys.revoke(revoke)
        typer.echo(f"the key {key.id} of {key.owner} opens nothing any more", err=True)
    else:
        _list(keys, json)


def _list(keys: Keys, json: bool) -> None:
    found = keys.all()
    if json:
        one_json([vars(key) for key in found])
        return
    for key in found:
        state = f"revoked {key.revoked}" if key.revoked else f"expires {key.expires}" if key.expires else "valid"
        typer.echo(f"{key.id}  {key.owner}  made {key.created}  {state}")
    if not found:
        typer.echo("There are no keys: whoever is on this machine may use the service.", err=True)
