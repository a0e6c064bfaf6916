"""Floor 6: who asks. API keys: 32 random bytes, shown once; the database keeps their SHA-256.

As long as there is no key, whoever reaches the service is the owner ``local``, and only this machine does: the service
listens on the loopback address, answers to its names alone (another name that leads here was made for a browser's DNS
to be rebound), and takes no changes from other sites' pages.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import sqlalchemy as sa

from quickstudy.errors import InputError
from quickstudy.serve.errors import Refused
from quickstudy.serve.records import answering, now
from quickstudy.serve.schemas import plain
from quickstudy.serve.settings import Settings, is_loopback
from quickstudy.serve.tables import keys

__all__ = ["LOCAL", "Access", "Key", "Keys", "check_start"]

LOCAL = "local"
_REMEMBERED = 1.0  # seconds for which it is believed that there is no key yet
_CHALLENGE = {"WWW-Authenticate": "Bearer"}


@dataclass(frozen=True)
class Key:
    """What is known of a key."""

    id: str
    owner: str
    created: str
    expires: str | None
    revoked: str | None


class Keys:
    """Keys in the database.

    Args:
        engine: of the database.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self.engine = engine

    def add(self, owner: str, expires: str | None = None) -> tuple[str, Key]:
        """A new key, which nobody can show again, and what is known of it.

        Args:
            owner: whose tasks it opens.
            expires: a date, or a date and a time, as ISO 8601 writes them; without a zone, in UTC.

        Raises:
            InputError: the owner has no name, or the date is none or past.
        """
        try:
            owner = plain(owner)
        except ValueError as error:
            raise InputError(f"Cannot make a key for the owner {owner!r}: {error}.") from error
        secret = "qs_" + secrets.token_urlsafe(32)
        key = Key(secrets.token_hex(4), owner, now(), None if expires is None else _date(expires), None)
        with self.engine.begin() as connection:
            connection.execute(
                keys.insert().values(
                    id=key.id, owner=owner, digest=_digest(secret), created=key.created, expires=key.expires
                )
            )
        return secret, key

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        with self.engine.begin() as connection:
            return [Key(*row) for row in connection.execute(sa.select(*_ABOUT).order_by(keys.c.created, keys.c.id))]

    def revoke(self, id_: str) -> Key:
        """Make a key useless from now on.

        Raises:
            InputError: there is no such key.
        """
        with self.engine.begin() as connection:
            connection.execute(keys.update().where(keys.c.id == id_, keys.c.revoked.is_(None)).values(revoked=now()))
            row = connection.execute(sa.select(*_ABOUT).where(keys.c.id == id_)).first()
        if row is None:
            raise InputError(f"There is no key {id_!r}. `quickstudy serve --list-keys` names them.")
        return Key(*row)

    def of(self, secret: str) -> Key | None:
        """What is known of a key that somebody has shown."""
        query = sa.select(*_ABOUT).where(keys.c.digest == _digest(secret))
        with answering(), self.engine.execution_options(reads=True).begin() as connection:
            row = connection.execute(query).first()
        return None if row is None else Key(*row)

    def any(self) -> bool:
        """Whether there is one, be it revoked or expired."""
        with answering(), self.engine.execution_options(reads=True).begin() as connection:
            return connection.execute(sa.select(keys.c.id).limit(1)).first() is not None


_ABOUT = (keys.c.id, keys.c.owner, keys.c.created, keys.c.expires, keys.c.revoked)


class Access:
    """Says whose request it is, or refuses it.

    Args:
        keys: in the database.
        settings: of the service.
    """

    def __init__(self, keys: Keys, settings: Settings) -> None:
        self.keys, self.settings = keys, settings
        self._open_until = 0.0

    def owner(self, method: str, headers: Mapping[str, str]) -> str:
        """Whose tasks a request may see.

        Args:
            method: of HTTP.
            headers: of the request, names in small letters.

        Raises:
            Refused: no key, one that is not known, was revoked or has expired; or, where no key is needed, a request
                that another site's page may have sent.
        """
        secret = _shown(headers)
        if secret is not None:
            return self._of_key(secret)
        if time.monotonic() >= self._open_until:
            if self.keys.any() or not self.settings.loopback:
                self._open_until = 0.0
                raise Refused(
                    401, "This service wants a key. Send the header Authorization: Bearer KEY.", None, _CHALLENGE
                )
            self._open_until = time.monotonic() + _REMEMBERED
        _refuse_foreign(method, headers)
        return LOCAL

    def _of_key(self, secret: str) -> str:
        key = self.keys.of(secret)
        if key is None:
            raise Refused(401, "This key is not known. Check that it was copied whole.", "unknown_key", _CHALLENGE)
        if key.revoked is not None:
            raise Refused(401, f"This key was revoked ({key.revoked}). Ask for another one.", "revoked_key", _CHALLENGE)
        if key.expires is not None and key.expires <= now():
            raise Refused(401, f"This key has expired ({key.expires}). Ask for another one.", "expired_key", _CHALLENGE)
        return key.owner


def check_start(settings: Settings, keys: Keys) -> None:
    """Refuse to be reached by others without a key.

    Raises:
        InputError: another address than the loopback's, and there is no key.
    """
    if not settings.loopback and not keys.any():
        raise InputError(
            f"Cannot listen on {settings.host}: there is no key yet, so that whoever reaches this address could read "
            "and change every task. Make one first: quickstudy serve --add-key OWNER."
        )


def _refuse_foreign(method: str, headers: Mapping[str, str]) -> None:
    host = headers.get("host", "")
    if not is_loopback(_name_of(host)):
        raise Refused(
            403,
            "This service has no keys, and so answers to localhost and 127.0.0.1 alone. Ask it by one of these "
            "names, or make a key.",
            "foreign_host",
        )
    if "x-forwarded-for" in headers or "forwarded" in headers:
        raise Refused(
            403,
            "This request came through a proxy, perhaps from another machine, and there are no keys. Make one first: "
            "quickstudy serve --add-key OWNER.",
            "forwarded",
        )
    if method in ("GET", "HEAD", "OPTIONS"):  # another site cannot read the answer: nothing here allows it (CORS)
        return
    origin = headers.get("origin")
    if (origin is not None and _site(origin) != host) or headers.get("sec-fetch-site") in (
        "cross-site",
        "same-site",
    ):
        raise Refused(403, "This service takes no changes from pages of other sites.", "foreign_origin")


def _shown(headers: Mapping[str, str]) -> str | None:
    given = headers.get("authorization")
    if given is None:
        return headers.get("x-api-key")
    kind, _, secret = given.partition(" ")
    if kind.lower() != "bearer" or not secret.strip():
        raise Refused(401, "Expected the header Authorization: Bearer KEY.", None, _CHALLENGE)
    return secret.strip()


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogateescape")).hexdigest()


def _date(text: str) -> str:
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise InputError(f"--expires: expected a date such as 2030-12-31, received {text!r}.") from error
    date = date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    if date <= datetime.now(UTC):
        raise InputError(f"--expires: {text} is past. Give a date to come.")
    return date.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _name_of(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:  # half of an IPv6 address
        return ""


def _site(origin: str) -> str:
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""
