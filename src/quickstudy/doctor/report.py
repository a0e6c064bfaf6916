"""Floor 5: what the doctor says: one line a check, and what to do."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

__all__ = ["Finding", "Report", "Verdict"]

Verdict: TypeAlias = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Args:
        check: what was looked at.
        verdict: ``"ok"``, ``"note"`` (worth knowing, or not to be told here) or ``"problem"``.
        found: what was found.
        advice: what to do; empty where there is nothing to do.
    """

    check: str
    verdict: Verdict
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Report:
    """What a self-test found.

    Args:
        learner: whom it was of.
        findings: in the order of the checks.

    >>> report = Report("MAML", (Finding("determinism", "ok", "twice the same"),))
    >>> report.healthy, len(report.problems)
    (True, 0)
    """

    learner: str
    findings: tuple[Finding, ...]

    @property
    def problems(self) -> tuple[Finding, ...]:
        """The lines that say that something is wrong."""
        return tuple(finding for finding in self.findings if finding.verdict == "problem")

    @property
    def healthy(self) -> bool:
        """Whether there is no problem."""
        return not self.problems

    def of(self, check: str) -> list[Finding]:
        """The lines of one check."""
        return [finding for finding in self.findings if finding.check == check]

    def to_json(self) -> str:
        """One JSON document."""
        return json.dumps(
            {"learner": self.learner, "healthy": self.healthy, "findings": [asdict(f) for f in self.findings]}, indent=2
        )

    def to_text(self, width: int = 118) -> str:
        """The table, for people."""
        name = max(len(finding.check) for finding in self.findings)
        room = max(width - name - 11, 40)
        lines = []
        for finding in self.findings:
            text = textwrap.wrap(finding.found, room)
            text += [f"-> {line}" if not i else f"   {line}" for i, line in enumerate(_wrapped(finding.advice, room))]
            heads = [f"{finding.check:{name}}  {finding.verdict:7}"] + [" " * (name + 9)] * (len(text) - 1)
            lines += [f"{head}  {line}".rstrip() for head, line in zip(heads, text, strict=True)]
        count = len(self.problems)
        said = "no problem" if count == 0 else f"{count} problem" + ("s" if count > 1 else "")
        return "\n".join([*lines, "", f"{self.learner}: {said} in {len(self.findings)} lines."])

    def __str__(self) -> str:
        return self.to_text()


def _wrapped(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, room - 3)
