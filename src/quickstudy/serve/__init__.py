"""Floor 6: the service (docs/service.md).

settings.py      what it allows
tables.py        the database: SQLite or PostgreSQL
store.py         tasks and examples in it
access.py        API keys
content.py       what clients send as examples
learners.py      whom they may name
brains.py        tasks that were learned
batching.py      answers to several users together
service.py       all of these together
gate.py          the door: limits, time-outs, rates
routes_*.py      addresses
app.py           the application of ASGI
running.py       the process
"""

from __future__ import annotations

from quickstudy.serve.app import create_app
from quickstudy.serve.settings import Limits, Settings

__all__ = ["Limits", "Settings", "create_app"]
