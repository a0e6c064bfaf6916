"""Floor 6: the bodies of requests and answers, as OpenAPI describes them (docs/service.md)."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    Strict,
    StringConstraints,
    model_validator,
)

__all__ = [
    "Answers",
    "ChangeTask",
    "ClassifyQuestion",
    "CompareQuestion",
    "Compared",
    "Content",
    "ErrorBody",
    "ExampleList",
    "Kind",
    "Label",
    "Learners",
    "MapQuestion",
    "NewExamples",
    "NewTask",
    "Points",
    "Renamed",
    "TaskBody",
    "TaskList",
]

Kind: TypeAlias = Literal["pictures", "texts", "sounds", "rows"]
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAFElEQVR4nGNgwAL+QwETjEFlBgAzzwf5Qwr5qwAAAABJRU5ErkJggg=="


_UNSEEN = ("Cf", "Zs", "Zl", "Zp", "Mn", "Me")  # marks of direction, joiners, spaces, accents of nothing
_BLANK = "\u115f\u1160\u2800\u3164\uffa0"  # letters by Unicode's tables, but drawn as nothing


def plain(text: str) -> str:
    """A label or a name: without spaces around it, composed, and without what cannot be seen.

    Raises:
        ValueError: it is empty, or has control characters or half of a pair of UTF-16.
    """
    text = unicodedata.normalize("NFC", text).strip()
    if all(unicodedata.category(letter) in _UNSEEN or letter in _BLANK for letter in text):
        raise ValueError("expected at least one letter that can be seen")
    odd = next((letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp")), None)
    if odd is not None:
        raise ValueError(f"expected no control characters, found U+{ord(odd):04X}")
    return text


# The limits of lengths are the operator's (settings.py); these keep what is absurd from being looked at.
Label = Annotated[str, StringConstraints(min_length=1, max_length=10_000), AfterValidator(plain)]
Rate = Annotated[float, Field(gt=0, lt=1)]
_MOST = 100_000  # numbers of a row, and parts of a list
Number = Annotated[FiniteFloat, Strict()]  # neither "1.5" nor true


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Content(_Body):
    """One example's content: exactly one of the four."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"row": [5.1, 3.5, 1.4, 0.2]}, {"text": "a fine day"}]})
    text: str | None = None
    row: list[Number] | None = Field(default=None, min_length=1, max_length=_MOST)
    image: str | None = Field(default=None, description="base64 of a PNG, JPEG, GIF, BMP, WebP or TIFF")
    audio: str | None = Field(default=None, description="base64 of a WAV, FLAC, OGG or MP3")

    @model_validator(mode="after")
    def _one(self) -> Content:
        given = [name for name in ("text", "row", "image", "audio") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of text, row, image and audio, found {' and '.join(given) or 'none'}"
            )
        return self


class NewExample(Content):
    """A labelled example."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "iris", "row": [5.1, 3.5, 1.4, 0.2]}]})
    label: Label


class NewTask(_Body):
    """A task to be made."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "mood"}]})
    name: Label | None = None
    learner: Label = "auto"
    reject_unknown: Rate | None = 0.05


class ChangeTask(_Body):
    """What of a task shall change."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"learner": "knn"}]})
    name: Label | None = None
    learner: Label | None = None
    reject_unknown: Rate | None = None


class NewExamples(_Body):
    """Examples to be added, all or none."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"examples": [{"label": "glad", "text": "a fine day"}, {"label": "sad", "text": "it rains"}]}]
        }
    )
    examples: list[NewExample] = Field(min_length=1, max_length=_MOST)


class Renamed(_Body):
    """A class's new name."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"label": "gladly"}]})
    label: Label


class ClassifyQuestion(_Body):
    """What are these?"""

    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": [{"text": "what a fine day"}]}]})
    queries: list[Content] = Field(min_length=1, max_length=_MOST)
    nearest: int = Field(default=3, ge=0, le=100, strict=True)
    coverage: Rate | None = 0.9


class CompareQuestion(_Body):
    """What do several learners say of this?"""

    model_config = ConfigDict(json_schema_extra={"examples": [{"query": {"text": "what a fine day"}}]})
    query: Content
    learners: list[Label] | None = Field(default=None, min_length=1, max_length=_MOST)


class MapQuestion(_Body):
    """Where do the examples, and these, lie?"""

    model_config = ConfigDict(json_schema_extra={"examples": [{"queries": [{"text": "what a fine day"}]}]})
    queries: list[Content] = Field(default_factory=list, max_length=_MOST)


# --- answers -----------------------------------------------------------------------------------------


class LearnerAbout(BaseModel):
    """A learner that a task may be taught to."""

    name: str
    kind: Kind | None = Field(description="what it learns; null: examples of any kind")
    summary: str


class Learners(BaseModel):
    """What there is."""

    learners: list[LearnerAbout]


class LearnerOf(BaseModel):
    """Who learns a task."""

    asked: str
    name: str | None
    why: str | None


class ClassBody(BaseModel):
    """A class of a task."""

    label: str
    examples: int


class TaskBody(BaseModel):
    """A task."""

    id: str
    name: str
    kind: Kind | None
    learner: LearnerOf
    classes: list[ClassBody]
    examples: int
    revision: int
    ready: bool
    reject_unknown: float | None
    created: str
    changed: str


class TaskList(BaseModel):
    """Some tasks, the newest first."""

    tasks: list[TaskBody]
    next: str | None


class ExampleBody(BaseModel):
    """A labelled example, without its content."""

    id: str
    label: str
    kind: Kind
    created: str


class ExampleList(BaseModel):
    """Some examples, in the order in which they came."""

    examples: list[ExampleBody]
    next: str | None


class NewId(BaseModel):
    """An example that was added."""

    id: str
    label: str


class LeftOut(BaseModel):
    """An example that could not be read, and why."""

    index: int
    name: str
    message: str


class Added(BaseModel):
    """What was added."""

    examples: list[NewId]
    task: TaskBody
    left_out: list[LeftOut] | None = Field(default=None, description="with ?skip=true")


class Near(BaseModel):
    """A labelled example that is much like the query."""

    example: str
    label: str
    distance: float


class AnswerBody(BaseModel):
    """What is said of one query."""

    label: str
    probability: float
    probabilities: dict[str, float]
    unknown: bool
    set: list[str] | None
    nearest: list[Near]


class Answers(BaseModel):
    """What is said of the queries, in their order."""

    task: str
    revision: int
    promise: str | None
    answers: list[AnswerBody]


class LearnerSaid(BaseModel):
    """What one learner says."""

    name: str
    summary: str
    probabilities: dict[str, float] | None = None
    label: str | None = None
    milliseconds: float | None = Field(default=None, description="to learn the examples and to answer")
    losses: list[float] | None = Field(default=None, description="of one that learns in steps: before each, and after")
    error: str | None = Field(default=None, description="why it cannot learn this task")


class Compared(BaseModel):
    """What several learners say."""

    learners: list[LearnerSaid]


class Point(BaseModel):
    """Where an example, or a query by its number, lies."""

    example: str | None = None
    query: int | None = None
    label: str | None = None
    x: float
    y: float


class Points(BaseModel):
    """A picture of the features, in -1..1."""

    points: list[Point]


class Why(BaseModel):
    """Of an error."""

    code: str
    message: str


class ErrorBody(BaseModel):
    """Why a request was refused."""

    error: Why


def all_models() -> list[Any]:
    """Every one of them, for the description."""
    return [
        found
        for name, found in globals().items()
        if isinstance(found, type)
        and issubclass(found, BaseModel)
        and not name.startswith("_")
        and found is not BaseModel
    ]
