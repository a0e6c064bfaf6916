"""Floor 6: what an operator watches, as Prometheus reads it. No owner, task or label is named in it."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["CONTENT_TYPE", "Metrics"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


class Metrics:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        made: dict[str, Any] = {"registry": self.registry, "namespace": "quickstudy"}
        self.requests = Counter("requests", "Answered requests.", ("method", "route", "status"), **made)
        self.seconds = Histogram("request_seconds", "Time to answer.", ("route",), buckets=_SECONDS, **made)
        self.working = Gauge("requests_in_progress", "Requests that are being answered.", **made)
        self.refused = Counter("refused", "Refused requests, by the code of their error.", ("code",), **made)
        self.examples = Counter("examples_added", "Examples that were added.", ("kind",), **made)
        self.queries = Counter("queries", "Queries that were answered.", ("kind",), **made)
        self.learned = Counter("learned", "Times that a task was learned.", ("learner",), **made)
        self.learning = Histogram("learning_seconds", "Time to learn a task.", buckets=_SECONDS, **made)
        self.together = Histogram(
            "tasks_together", "Tasks that were answered in one call.", buckets=(1, 2, 4, 8, 16, 32, 64), **made
        )
        self.models = Gauge("models_in_memory", "Learned tasks that are kept in memory.", **made)
        self.failures = Counter("failures", "Requests that failed by our own fault.", **made)

    def text(self) -> bytes:
        """As it is sent."""
        return generate_latest(self.registry)
