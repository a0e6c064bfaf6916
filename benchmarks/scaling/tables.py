"""What was measured and what follows from it, as the Markdown of docs/scaling.md."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.scaling import models, outlook
from benchmarks.scaling.sizes import CORNERS, LEARNERS, Sizes

__all__ = ["fitted", "foreseen", "measured_ranks", "opening", "replaced"]

Measured = Mapping[str, Any]
RANKS = (1, 2, 4, 8, 16, 32, 64)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield f"| {' | '.join(row)} |"
    yield ""


def _percent(share: float) -> str:
    return "not known" if math.isnan(share) else f"{100 * share:.0f} %"


def opening(measured: Measured) -> Iterator[str]:
    """The machine."""
    about = measured["machine"]
    busy = measured["busy"]
    yield (
        f"{about['processor']}, family {about.get('family', '?')}, {about['cores']} cores, torch {about['torch']}, "
        f"float32, one thread, random pictures of seed 0, {measured['date']}"
        + ("." if busy is None else f"; other programs used {_percent(busy)} of the cores before it began.")
    )
    yield ""


def _split(learner: str, measured: Measured, quantity: str) -> tuple[list[Sizes], list[float], list[bool]]:
    """Settings of a learner, what was measured of each, and whether it is a corner."""
    points = [point for point in measured["points"] if point["learner"] == learner and point[quantity] > 0]
    sizes = [Sizes(**point["sizes"]) for point in points]
    corners = {(c.tasks, c.at_once, c.steps, c.filters, c.shot) for c in CORNERS}
    away = [(s.tasks, s.at_once, s.steps, s.filters, s.shot) in corners for s in sizes]
    return sizes, [point[quantity] for point in points], away


def _errors(model: models.Model, learner: str, measured: Measured, quantity: str) -> tuple[str, str]:
    """Left out one by one, and the corners foretold by all the rest."""
    sizes, values, away = _split(learner, measured, quantity)
    known = [n for n, corner in enumerate(away) if not corner]
    asked = [n for n, corner in enumerate(away) if corner]
    one = models.typical(models.left_out(model, sizes, values))
    corners = models.foretold(
        *(model, [sizes[n] for n in known], [values[n] for n in known], [sizes[n] for n in asked]),
        [values[n] for n in asked],
    )
    return _percent(one), _percent(models.typical(corners))


def fitted(measured: Measured) -> Iterator[str]:
    """Operations, and the coefficients of time and memory with what they miss."""
    operations = measured["operations"]
    yield "Passes forwards that as many operations would make, counted by torch:"
    yield ""
    rows = [[name, *(f"{operations[name][part]:.1f}" for part in ("inner", "outer"))] for name in LEARNERS]
    yield from _table(["learner", "of a support example, each inner step", "of a query example, once"], rows)
    for title, quantity, model in (
        ("Processor time of a meta-step, ms", "milliseconds", models.TIME),
        ("Peak memory over the start, MB", "megabytes", models.MEMORY),
    ):
        yield f"{title}: coefficients, and the typical error of what a fit without it foretells."
        yield ""
        rows = []
        for learner in LEARNERS:
            sizes, values, _ = _split(learner, measured, quantity)
            found = models.fit(model, sizes, values)
            rows.append(
                [learner, *(f"{c:.2g}" for c in found.coefficients), *_errors(model, learner, measured, quantity)]
            )
        yield from _table(["learner", *(f"per {name}" for name in model.terms), "one left out", "corners"], rows)


def measured_ranks(measured: Measured) -> Iterator[str]:
    """What ranks compute and send, and the fit to it."""
    points = measured["ranks"]
    task = {_key(p): p["processor"] / Sizes(**p["sizes"]).tasks for p in points if p["ranks"] == 1}
    settings = [
        models.Divided(p["ranks"], Sizes(**p["sizes"]).tasks, round(p["weights"]), task[_key(p)]) for p in points
    ]
    found = models.fit(models.RANKS, settings, [p["processor"] for p in points])
    errors = models.left_out(models.RANKS, settings, [p["processor"] for p in points])
    # One rank's own time says how much a task is: foretelling it by that would be no test.
    errors = errors[[n for n, each in enumerate(settings[: len(errors)]) if each.ranks > 1]]
    rows = []
    for point, setting, foretold in zip(points, settings, found(settings), strict=True):
        alone = task[_key(point)] * setting.tasks
        share = alone / (setting.ranks * point["processor"])
        clock = "" if point["crowded"] else f"{point['clock']:.0f} ms"
        of_rank = "not known" if point["sent"] is None else f"{point['sent']:,.0f}"
        cells = [f"{point['processor']:.0f} ms", f"{foretold:.0f} ms", _percent(share), clock, of_rank]
        rows.append(
            [f"{setting.tasks}", f"{setting.weights:,}", f"{setting.ranks}", *cells, f"{setting.ring_bytes:,.0f}"]
        )
    head = [
        "tasks",
        "weights",
        "ranks",
        "processor, most",
        "fitted",
        "efficiency",
        "clock",
        "bytes sent",
        "of the ring",
    ]
    yield from _table(head, rows)
    terms = ", ".join(f"{value:.3g} per {name}" for name, value in found.record.items())
    yield f"Processor time, ms: {terms}. One left out: {_percent(models.typical(errors))}."
    sent = [(s, p["sent"]) for s, p in zip(settings, points, strict=True) if p["sent"]]
    if sent:
        some, numbers = [s for s, _ in sent], [n for _, n in sent]
        traffic = models.fit(models.TRAFFIC, some, numbers)
        typical = models.typical(models.left_out(models.TRAFFIC, some, numbers))
        terms = ", ".join(f"{value:.3g} per {name}" for name, value in traffic.record.items())
        yield f"Bytes that a rank sends in a step: {terms}. One left out: {_percent(typical)}."
    yield ""


def _key(point: Mapping[str, Any]) -> str:
    return str(sorted(point["sizes"].items(), key=str))


def foreseen(measured: Measured, assumptions: Mapping[str, outlook.Assumption]) -> Iterator[str]:
    """EXTRAPOLATION to 64 GPUs."""
    yield "Assumed, not measured (the worse end, what is taken, the better end):"
    yield ""
    rows = [
        [f"`--{name}`", f"{one.low:g}", f"{one.typical:g}", f"{one.high:g}", one.unit, one.why]
        for name, one in assumptions.items()
    ]
    yield from _table(["", "worse", "taken", "better", "unit", "from"], rows)
    typical = {name: one.typical for name, one in assumptions.items()}
    all_works = outlook.works(measured["operations"])
    for title, tasks in (
        ("32 tasks a step (strong scaling)", lambda ranks: 32),
        ("256 tasks a step (strong scaling)", lambda ranks: 256),
        ("4 tasks a step and rank (weak scaling)", lambda ranks: 4 * ranks),
    ):
        yield f"EXTRAPOLATED, {title}: efficiency (from the worse ends to the better), and what takes most of the rest."
        yield ""
        rows = []
        for ranks in RANKS:
            row = [str(ranks)]
            for work in all_works:
                taken, low, high = outlook.efficiency(work, tasks, ranks, assumptions)
                away = outlook.lost(work, tasks, ranks, typical)
                most = max(away, key=lambda name: away[name]) if ranks > 1 else ""
                row.append(_percent(taken) + (f" ({_percent(low)} to {_percent(high)}), {most}" if most else ""))
            rows.append(row)
        yield from _table(["GPUs", *(work.name for work in all_works)], rows)


def replaced(page: str, name: str, lines: Sequence[str]) -> str:
    """A page with other text between ``<!-- name -->`` and ``<!-- end of name -->``.

    Raises:
        ValueError: it has no such place.
    """
    first, last = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    if first not in page or last not in page:
        raise ValueError(f"Cannot write {name!r} into the page: it has no lines {first.strip()} and {last}.")
    head, rest = page.split(first, 1)
    return head + first + "\n".join(["", *lines]) + last + rest.split(last, 1)[1]
