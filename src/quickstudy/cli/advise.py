"""Floor 7: ``quickstudy advise``: what one's own examples allow, and what may be expected of learners."""

from __future__ import annotations

import math
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from quickstudy.cli.completion import learner_names
from quickstudy.cli.learn import Categories, Label, Source, Target, Text
from quickstudy.cli.options import Debug, Json, one_json
from quickstudy.cli.tasktext import say_left
from quickstudy.errors import DataError

if TYPE_CHECKING:
    from quickstudy.estimators.advice import Advice, Survey
    from quickstudy.estimators.advising import Estimate, Shots
    from quickstudy.estimators.files import Asked

__all__ = ["advise"]

_SHOWN = 10  # groups of examples that are named one by one


def advise(
    source: Source,
    label: Label = "label",
    text: Text = "text",
    target: Target = None,
    categories: Categories = None,
    learner: Annotated[
        list[str] | None,
        typer.Option(
            help="A further learner to try: a name, or a folder; once for each.", autocompletion=learner_names
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(min=2, help="How often lessons and questions are drawn.")] = 20,
    seconds: Annotated[float, typer.Option(min=0, help="After this time no further ones are drawn.")] = 60.0,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    json: Json = False,
    debug: Debug = False,
) -> None:
    """Say what examples allow, which are doubled or broken, and which learner to take; nothing is written."""
    del debug  # read by `outcome`
    from quickstudy.estimators.advice import advise as advice_on
    from quickstudy.estimators.files import Asked, labelled, plain_reader, readable
    from quickstudy.progress import Line

    asked = Asked(label, text, target, tuple(categories or ()), skip=True)
    found = labelled(source, asked)
    found = readable(found, plain_reader(found.kind))
    if not found.names:
        raise DataError(f"There is not a single example in {source} that can be read.")
    line = Line()
    try:
        advice = advice_on(
            found,
            real=target is not None,
            learners=learner or (),
            episodes=episodes,
            seconds=seconds,
            listen=lambda done, total: line.show(lambda: f"{done}/{total} episodes"),
            seed=seed,
        )
    finally:
        line.close()
    if json:
        one_json(_document(source, advice))
        return
    say_left(found.left)
    for said in (*_of_survey(advice.survey), "", *_of_measured(source, advice, asked)):
        typer.echo(said)


# --- as JSON ------------------------------------------------------------------------------------------


def _document(source: Path, advice: Advice) -> dict[str, Any]:
    seen = advice.survey
    document: dict[str, Any] = {
        "source": str(source),
        "kind": seen.found.kind,
        "examples": len(seen.found.names),
        "usable": len(seen.rows),
        "unreadable": seen.found.left,
        "duplicates": seen.same,
        "at_odds": seen.at_odds,
    }
    if not seen.real:
        classes = [{"label": label, "examples": n, "usable": used} for label, (n, used) in seen.classes.items()]
        way, shot = _allows(seen)
        document |= {"classes": classes, "too_few": seen.few, "way": way, "shot": shot}
    measured = advice.measured
    if measured is None:
        return document | {"tried": [], "why_not": advice.why_not, "take": None}
    tried = [
        {
            "learner": name,
            "what": advice.candidates[name].what,
            "plain": advice.candidates[name].plain,
            "shots": [{"shots": s, **_figures(measured.of(name, s), advice)} for s in measured.pool.shots],
        }
        for name in advice.order
    ]
    return document | {
        "metric": "R2" if seen.real else "accuracy",
        "episodes": len(measured.asked),
        "out_of_time": measured.left_early,
        "sampled": None if advice.sampled is None else dict(zip(("classes", "examples"), advice.sampled, strict=True)),
        "tried": tried,
        "not_tried": measured.refused,
        "take": advice.take,
        "plain_is_enough": advice.candidates[advice.take].plain,
        "lead_over_plain": None if advice.lead is None else _plain_figures(advice.lead),
        "lead_over_guessing": _plain_figures(advice.over_guessing),
        "as_chosen": _figures(advice.as_chosen, advice),
        "growth": None if advice.growth is None else _grown(advice.growth),
    }


def _grown(growth: tuple[int, int, Estimate]) -> dict[str, Any]:
    fewer, more, gain = growth
    return {"from": fewer, "to": more, **_plain_figures(gain)}


def _plain_figures(one: Estimate) -> dict[str, Any]:
    known = math.isfinite(one.half)
    return {"mean": one.mean, "low": one.low if known else None, "high": one.high if known else None}


def _figures(one: Estimate, advice: Advice) -> dict[str, Any]:
    said = _plain_figures(one)
    if not advice.survey.real:
        return {name: value if value is None else min(max(value, 0.0), 1.0) for name, value in said.items()}
    return said | {"rmse": advice.deviation * math.sqrt(max(0.0, 1 - one.mean))}


# --- in words -----------------------------------------------------------------------------------------


def _allows(seen: Survey) -> tuple[int, int]:
    """Classes that can be told apart, and examples of each to learn from with one left to ask for."""
    used = [usable for _, usable in seen.classes.values() if usable >= 2]
    return len(used), min(used, default=1) - 1


def _of_survey(seen: Survey) -> list[str]:
    n = len(seen.found.names)
    lines = []
    if seen.real:
        lines.append(f"{n} {seen.found.kind}, {len(seen.rows)} of them different")
    else:
        classes = ", ".join(f"{label} ({count})" for label, (count, _) in seen.classes.items())
        lines.append(f"{n} {seen.found.kind} of {len(seen.classes)} classes: {classes}")
        way, shot = _allows(seen)
        if way >= 2:
            lines.append(f"tasks they allow: up to {way} classes, with up to {shot} example(s) of each to learn from")
        lines += [f"too few: {name!r} has fewer than two examples that can be used" for name in seen.few]
    return lines + _of_doubles(seen)


def _of_doubles(seen: Survey) -> list[str]:
    odd = {name for group in seen.at_odds for name in group}
    alike = [group for group in seen.same if group[0] not in odd]
    lines = [f"the same example twice: {', '.join(group)}" for group in alike[:_SHOWN]]
    lines += [f"the same, {len(alike) - _SHOWN} more times (--json names all)"] if len(alike) > _SHOWN else []
    for group in seen.at_odds[:_SHOWN]:
        said = ", ".join(f"{name} ({label})" for name, label in group.items())
        lines.append(f"the same example with different labels: {said}; correct or remove it")
    more = len(seen.at_odds) - _SHOWN
    return lines + ([f"{more} more of these (--json names all)"] if more > 0 else [])


def _of_measured(source: Path, advice: Advice, asked: Asked) -> list[str]:
    measured, seen = advice.measured, advice.survey
    if measured is None:
        return [f"Nothing was tried: {advice.why_not}."]
    lines = [_table_head(advice)]
    steps = _columns(measured.pool.shots)
    lines.append("learner".ljust(18) + "".join(_step(s, seen.real).rjust(8) for s in steps[:-1]) + "  all but a fold")
    for name in advice.order:
        row = "".join(_percent(measured.of(name, s), seen.real).rjust(8) for s in steps[:-1])
        kind = "plain: " if advice.candidates[name].plain else ""
        whole = _with_ends(measured.of(name), seen.real).ljust(24)
        lines.append(f"{name.ljust(18)}{row}  {whole}  {kind}{advice.candidates[name].what}")
    lines += [f"not tried: {name}: {why}" for name, why in measured.refused.items()]
    return [*lines, "", *_verdict(source, advice, asked), *_growth(advice)]


def _columns(shots: list[Shots]) -> list[Shots]:
    """At most five sizes of lessons, the first, the last and some between."""
    most = 5
    if len(shots) <= most:
        return shots
    return [shots[round(place * (len(shots) - 1) / (most - 1))] for place in range(most)]


def _table_head(advice: Advice) -> str:
    measured = advice.measured
    assert measured is not None
    what = "R2, the share of the variance that is explained" if advice.survey.real else "right answers in %"
    held = f"{len(measured.asked)} episodes" + (", the time being up" if measured.left_early else "")
    some = "" if advice.sampled is None else f", with {advice.sampled[1]} of the examples"
    some += "" if advice.sampled is None or advice.survey.real else f" and {advice.sampled[0]} of the classes"
    return f"{what}, and a 95 % interval ({held}{some}), after lessons of as many examples {_each(advice)}:"


def _each(advice: Advice) -> str:
    return "in all" if advice.survey.real else "of each class"


def _step(shots: Shots, real: bool) -> str:
    return f"{shots} rows" if real else str(shots)


def _percent(one: Estimate, real: bool) -> str:
    return f"{one.mean:.2f}" if real else f"{100 * one.mean:.1f}"


def _with_ends(one: Estimate, real: bool) -> str:
    if not math.isfinite(one.half):
        return f"{_percent(one, real)} [unknown]"
    if real:
        return f"{one.mean:.2f} [{one.low:.2f}, {min(one.high, 1.0):.2f}]"
    return f"{100 * one.mean:.1f} [{max(0.0, 100 * one.low):.1f}, {min(100.0, 100 * one.high):.1f}]"


def _points(one: Estimate, real: bool) -> str:
    if real:
        return f"{one.mean:+.2f} [{one.low:+.2f}, {one.high:+.2f}] of R2"
    return f"{100 * one.mean:+.1f} [{100 * one.low:+.1f}, {100 * one.high:+.1f}] points"


def _verdict(source: Path, advice: Advice, asked: Asked) -> list[str]:
    taken, real = advice.take, advice.survey.real
    chosen = advice.candidates[taken]
    lead, plain = advice.lead, advice.best_plain
    what, guess = f"{taken} ({chosen.what})", advice.over_guessing
    if guess.low <= 0:
        lines = [
            f"No learner is shown to be better than a guess: more or other examples are needed. The best is {what}."
        ]
        lines.append(f"It is ahead of a guess by {_points(guess, real)}.")
    else:
        lines = [f"A plain baseline is enough: take {what}." if chosen.plain else f"Take {what}."]
    if lead is not None:
        ahead = _points(lead, real)
        lines.append(
            f"No trained learner is shown to be better; the best is ahead of {plain} by {ahead}."
            if chosen.plain
            else f"On the same questions it is ahead of the best plain one, {plain}, by {ahead}."
        )
    others = len([name for name in advice.order if name != "guess"])
    if others > 1:
        lines.append(
            f"The best of {others} owes something to luck. Chosen each time without the questions that it is held to, "
            f"it gives {_with_ends(advice.as_chosen, real)}{_error(advice)}."
        )
    return [*lines, f"  {_command(source, advice, asked)}"]


def _error(advice: Advice) -> str:
    if not advice.survey.real:
        return ""
    off = advice.deviation * math.sqrt(max(0.0, 1 - advice.as_chosen.mean))
    return f", an error of {off:.3g} (root mean square; the numbers deviate by {advice.deviation:.3g})"


def _command(source: Path, advice: Advice, asked: Asked) -> str:
    """What to run next, with the columns that were named."""
    usual = type(asked)()
    words = ["quickstudy", "learn", str(source), "--out", "task", "--learner", advice.take]
    for name in ("label", "text", "target"):
        if getattr(asked, name) != getattr(usual, name):
            words += [f"--{name}", getattr(asked, name)]
    for name in asked.categories:
        words += ["--categories", name]
    return shlex.join([*words, *(["--skip"] if advice.survey.found.left else [])])


def _growth(advice: Advice) -> list[str]:
    real, growth = advice.survey.real, advice.growth
    if growth is None:
        return [
            f"So few examples {_each(advice)} do not show how much more of them would help: add some and ask again."
        ]
    fewer, more, gain = growth
    step = f"From {fewer} to {more} examples {_each(advice)} it gains {_points(gain, real)}"
    beyond = f"nothing beyond {more} was measured"
    if gain.low > 0:
        return [
            f"{step}: more examples help. Such curves flatten, so that the next step will hardly gain more; {beyond}."
        ]
    return [f"{step}: that more examples help is not shown; {beyond}."]
