"""What people see while they wait."""

import io

from quickstudy.progress import EvaluationProgress, Line, TrainingProgress
from quickstudy.train import EndEvent, StepEvent, Validation, ValidationEvent


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Time that passes when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def train(stream: io.StringIO, seconds_a_step: float, first: int = 1) -> list[str]:
    """Ten steps with a validation after the fifth."""
    clock = Clock()
    progress = TrainingProgress(Line(stream, clock), clock)
    for step in range(first, 11):
        clock.now += seconds_a_step
        progress.step(StepEvent(step, 10, {"loss": 1 / step, "accuracy": step / 10}, seconds_a_step))
        if step == 5:
            progress.validation(ValidationEvent(step, Validation("accuracy", 0.5, 0.01), best=True))
    progress.end(EndEvent(10, "finished"))
    return stream.getvalue().splitlines()


def test_plain_lines_come_now_and_then() -> None:
    lines = train(io.StringIO(), 4.0)
    assert lines == [
        "step 3/10  loss 0.3333  accuracy 30.0 %  0.25 steps/s  0:28 left",
        "step 5: validation 50.0 ± 1.0 % (best so far)",
        "step 6/10  loss 0.1667  accuracy 60.0 %  validation 50.0 ± 1.0 %  0.25 steps/s  0:16 left",
        "step 9/10  loss 0.1111  accuracy 90.0 %  validation 50.0 ± 1.0 %  0.25 steps/s  0:04 left",
        "finished after 10 steps, 0:40",
    ]


def test_a_quick_run_says_only_how_it_ended() -> None:
    assert train(io.StringIO(), 0.01)[-1] == "finished after 10 steps, 0:00"
    assert len(train(io.StringIO(), 0.01)) == 2  # and its validation


def test_a_terminal_has_one_line_that_changes() -> None:
    stream = Terminal()
    train(stream, 4.0)
    text = stream.getvalue()
    assert text.count("\r\x1b[K") >= 10
    assert text.count("\n") == 3  # the validation, the end of the live line, how it ended
    assert text.endswith("finished after 10 steps, 0:40\n")


def test_a_run_that_goes_on_counts_its_own_steps() -> None:
    lines = train(io.StringIO(), 10.0, first=9)
    assert lines[0] == "step 9/10  loss 0.1111  accuracy 90.0 %  0.1 steps/s  0:10 left"


def test_an_error_is_no_percentage() -> None:
    stream = io.StringIO()
    TrainingProgress(Line(stream)).validation(ValidationEvent(3, Validation("mse", 0.34567, 0.0123), best=False))
    assert stream.getvalue() == "step 3: validation 0.346 ± 0.012\n"


def test_evaluation() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = EvaluationProgress(Line(stream, clock))
    for done in (1, 600):
        clock.now += 11
        progress(done, 1000)
    assert stream.getvalue() == "1/1,000 episodes\n600/1,000 episodes\n"
