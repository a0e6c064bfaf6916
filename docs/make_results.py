"""Write docs/results.md and docs/leaderboard.html from results/*/*.json, and from nothing else.

python docs/make_results.py            writes
python docs/make_results.py --check    exits with 1 where a page is not what this would write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quickstudy.domains.study import studies, study
from quickstudy.errors import DataError, InputError
from quickstudy.evaluate import Comparison, Entry, Result, average_ranks, compare, paired
from quickstudy.evaluate.kept import load_kept
from quickstudy.evaluate.wording import count, figure, marks, metric_name, number, verdict, wider
from quickstudy.leaderboard import read_board, render_page
from quickstudy.leaderboard.adding import FOLDER as ADDED
from quickstudy.reproduce import Record, Reproduced, overview
from quickstudy.reproduce.record import FOLDER, read_all
from quickstudy.reproduce.wording import ours, printed, reruns, sentence, steps_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results.md"
BOARD = ROOT / "docs" / "leaderboard.html"
RANKED = ("mini-meta-dataset",)  # studies that are one benchmark of several data sets
PRETRAINED = ", pretrained"  # as benchmarks/results.py calls the row
HEAD = """# Results

Made by `docs/make_results.py` from `results/*/*.json`, which `make results` measures. Mean over episodes ± half the
width of its 95 % interval; every row of a table saw the same tasks, and a learner is compared with the best baseline of
its column, episode by episode. What a field's figures show and what they do not stands on its page in `docs/domains/`.
"""


@dataclass(frozen=True)
class Measured:
    """One file: a result, and how it came about."""

    result: Result
    provenance: dict[str, Any]


def read(folder: Path) -> list[Measured]:
    """Every result of a study, in the order of its table.

    Raises:
        DataError: a file is no result, or does not say how it came about.
    """
    found = []
    for path in sorted(folder.glob("*.json")):
        found.append(Measured(*load_kept(path)))
    return sorted(found, key=lambda one: one.provenance["order"])


def tables(measured: list[Measured]) -> Iterator[Comparison]:
    """One for the main metric, and one for each other that all results have."""
    names = [measured[0].result.metric]
    names += [n for n in measured[0].result.others if all(n in one.result.others for one in measured)]
    for name in names:
        try:
            yield compare(_entries(measured, name))
        except InputError:  # a figure that is not defined for every episode
            continue


def _entries(measured: list[Measured], metric: str) -> list[Entry]:
    rows: dict[str, tuple[bool, dict[str, Result]]] = {}
    for one in measured:
        _, results = rows.setdefault(one.provenance["row"], (one.provenance["baseline"], {}))
        results[one.provenance["column"]] = one.result.by(metric)
    return [Entry(name, results, baseline) for name, (baseline, results) in rows.items()]


def _lines(table: Comparison) -> Iterator[str]:
    better = "smaller" if next(c for row in table.rows for c in row.cells if c).result.smaller_is_better else "larger"
    yield f"| {metric_name(table.metric)} ({better} is better) | {' | '.join(table.columns)} |"
    yield "|---" * (len(table.columns) + 1) + "|"
    for row in table.rows:
        cells = []
        for cell in row.cells:
            said = ["" if cell is None else figure(cell.result)]
            if cell is not None:
                # Where all tasks ask for the same rows, the first interval says nothing of others.
                rows = wider(cell.result) if cell.result.ci95_rows is not None else ()
                said += [*rows, *marks(cell.result), verdict(cell)]
            cells.append("; ".join(part for part in said if part))
        name = f"{row.name} (baseline)" if row.baseline else f"**{row.name}**"
        yield f"| {name} | {' | '.join(cells)} |"


def _against_plain(measured: list[Measured]) -> Iterator[str]:
    """How a learner stands to the same network plainly pretrained, column by column, by the main metric."""
    entries = _entries(measured, measured[0].result.metric)
    plain = next((entry for entry in entries if entry.name.endswith(PRETRAINED)), None)
    for entry in entries[:1]:  # the study's own recipe; other learners may have other networks
        if plain is None or entry.baseline:
            continue
        told = []
        for column, result in entry.results.items():
            found = paired(result, plain.results[column])
            ahead = -found.difference if found.smaller_is_better else found.difference
            said = f"{number(ahead, result.metric, sign=True)} ± {number(found.ci95, result.metric)}"
            told.append(f"{said} ({column})")
        yield f"{entry.name} is ahead of the same network, {plain.name}, by {', '.join(told)}, in pairs.\n"


def _average_ranks(measured: list[Measured]) -> Iterator[str]:
    """Learners by the average of their ranks over data sets; see ``evaluate/averagerank.py``."""
    entries = _entries(measured, measured[0].result.metric)
    table = {one.name: {column: (of.mean, of.ci95) for column, of in one.results.items()} for one in entries}
    told = [f"{name} {rank:.2f}" for name, rank in sorted(average_ranks(table).items(), key=lambda pair: pair[1])]
    yield f"Average rank over the data sets, by the rule of Meta-Dataset's leaderboards: {', '.join(told)}.\n"


def _published(name: str) -> Iterator[str]:
    """What others published on the tasks of a study, which is no row of its table."""
    found = study(name).published if name in studies.names() else ()
    if found:
        yield "Published, not measured here:\n"
        yield "\n".join(f"- {one}" for one in found) + "\n"


def page(results: Path) -> str:
    """The whole page."""
    parts = [HEAD]
    for folder in sorted(path for path in results.glob("*") if path.is_dir() and path.name not in (FOLDER, ADDED)):
        measured = read(folder)
        if not measured:
            continue
        first = measured[0]
        parts.append(f"## {folder.name}\n")
        parts += ["\n".join(_lines(table)) + "\n" for table in tables(measured)]
        parts += _against_plain(measured)
        if folder.name in RANKED:
            parts += _average_ranks(measured)
        parts += _published(folder.name)
        numbers = sorted({count(one.result.episodes) for one in measured})
        versions = first.provenance["versions"]
        told = f"{' and '.join(numbers)} episodes; `{first.provenance['command']}`"
        machine = f"{versions['processor']}, {versions['cpus']} cores, torch {versions['torch']}"
        parts.append(f"{told}; {machine}.\n")
        trained = {one.provenance["row"]: one.provenance for one in measured if "train_seconds" in one.provenance}
        for row, about in trained.items():
            parts.append(f"{row}: recipe `{about['recipe']}`, trained in {about['train_seconds'] / 60:.1f} minutes.\n")
    parts += reproductions(results)
    return "\n".join(parts)


REPRODUCTIONS = """## Reproductions

Published protocols, run by `quickstudy reproduce NAME`, beside what the papers print. Each published figure, its source
and its protocol's notes stand in `src/quickstudy/reproduce/claims/`; [reproducing.md](reproducing.md) says how a
verdict is found. Ours is the mean over seeds ± half of Student's 95 % interval over them; the re-runs are other
people's. Claims that were not run yet are not listed (`quickstudy reproduce` lists them).
"""


def reproductions(results: Path) -> Iterator[str]:
    """The section of published figures; nothing where none was run.

    Raises:
        DataError: a file among the results is foreign.
    """
    read_all(results, _refuse)
    run = [one for one in overview(results) if one.records]
    if not run:
        return
    yield REPRODUCTIONS
    head = "| claim | published | independent re-runs | ours | verdict | trained | time a seed | machine |"
    yield "\n".join([head, "|---" * 8 + "|", *map(_reproduced, run)]) + "\n"
    listed = {record.path for one in run for record in one.records}
    others = [path.stem for path in sorted((results / FOLDER).glob("*.json")) if path not in listed]
    if others:  # such as of a learner that has got an option since
        yield f"Not listed, as its recipe or test is not the claim's any more: {', '.join(others)}.\n"


def _refuse(text: str) -> None:
    raise DataError(f"{text} results/{FOLDER} holds what `quickstudy reproduce` writes, and nothing else.")


def _reproduced(one: Reproduced) -> str:
    trained = "; ".join(dict.fromkeys(map(steps_of, one.records)))
    seconds = sorted(record.about.train_seconds for record in one.records)
    time = " to ".join(dict.fromkeys(_minutes(value) for value in (seconds[0], seconds[-1]) if value))
    cells = [
        f"`{one.claim.name}`: {one.claim.title}",
        printed(one.claim.published, one.claim),
        reruns(one.claim),
        ours(one.verdict, one.claim, one.records),
        sentence(one.verdict, one.claim, one.records),
        trained,
        time,
        "; ".join(dict.fromkeys(map(_machine, one.records))),
    ]
    return f"| {' | '.join(cells)} |"


def _minutes(seconds: float) -> str:
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _machine(record: Record) -> str:
    versions, where = record.about.versions, record.about.device
    processor = f"{versions['processor']}, {versions['cpus']} cores"
    return f"{processor if where == 'cpu' else where}, torch {versions['torch']}"


def leaderboard(results: Path) -> str:
    """The page of all rows.

    Raises:
        DataError: a file among the results is no row.
    """
    board = read_board(results)
    for told in board.passed_over:
        raise DataError(told)
    return render_page(board)


def main() -> None:
    """Write, or check."""
    made = {PAGE: page(ROOT / "results"), BOARD: leaderboard(ROOT / "results")}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        sys.exit(f"{stale[0].name} is not what results/ says." if stale else 0)
    for path in stale:
        path.write_text(made[path], encoding="utf-8")


if __name__ == "__main__":
    main()
