"""Stands in for MLflow: takes down what it is told, in its own signatures, and prints it at the end."""

from typing import Any

told: list[tuple[str, Any]] = []


def start_run(*, run_name: str | None = None) -> None:
    told.append(("start_run", run_name))


def log_params(params: dict[str, Any]) -> None:
    told.append(("log_params", params))


def log_metrics(metrics: dict[str, float], step: int | None = None) -> None:
    assert all(isinstance(value, float) for value in metrics.values())
    told.append(("log_metrics", (step, metrics)))


def end_run(status: str = "FINISHED") -> None:
    told.append(("end_run", status))
