"""What /metrics tells. Counting is plain arithmetic on the event loop; Prometheus' types are made when asked for."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from creditmodel_bundle.contract import Contract

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from creditmodel_inference.answers import Identity, Verdict
    from creditmodel_inference.columns import Columns
    from creditmodel_inference.errors import FieldError

__all__ = ["Histogram", "Meter"]

LATENCY_SECONDS = (
    0.0001, 0.00015, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.005,
    0.0075, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
PROBABILITY = (
    0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9,
)  # fmt: skip
SCORE = "/v1/score"


class Histogram:
    """Counts per bucket, upper bounds inclusive."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: NDArray[np.float64]) -> None:
        """Count many values."""
        places = np.searchsorted(self.bounds, values, side="left")
        for place, count in enumerate(np.bincount(places, minlength=len(self.counts)).tolist()):
            self.counts[place] += count
        self.total += float(values.sum())

    def cumulative(self) -> list[tuple[str, float]]:
        """Buckets as Prometheus wants them."""
        running = 0
        buckets = []
        for bound, count in zip([*map(str, self.bounds), "+Inf"], self.counts, strict=True):
            running += count
            buckets.append((bound, float(running)))
        return buckets


class Meter:
    """Everything that is counted. Only the event loop's thread writes."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = defaultdict(int)
        self.latency: dict[str, Histogram] = defaultdict(lambda: Histogram(LATENCY_SECONDS))
        self.score_latency = self.latency[SCORE]
        self.scores = Histogram(PROBABILITY)
        self.decisions: list[int] = []
        self.violations: dict[tuple[str, str], int] = defaultdict(int)
        self.rows = 0
        self.calls = 0
        self.in_flight: Callable[[], int] = lambda: 0
        self.log: Callable[[], tuple[int, int, int, int]] | None = None
        self.psi: Callable[[], tuple[int, dict[str, float]]] | None = None
        self._names: frozenset[str] = frozenset()
        self._decision_names: list[str] = []
        self._identity: Identity | None = None

    def serve(self, contract: Contract, identity: Identity) -> None:
        """Name the model whose answers are counted from now on."""
        self._names = frozenset(feature.name for feature in contract.features) | {"applicants", "request_id"}
        self._decision_names = [cutoff.decision for cutoff in contract.cutoffs]
        self.decisions = [0] * len(contract.cutoffs)
        self._identity = identity

    def verdicts(self, verdicts: Sequence[Verdict]) -> None:
        """Count scored applicants."""
        self.rows += len(verdicts)
        for verdict in verdicts:
            self.decisions[verdict.decision] += 1
            self.scores.observe(verdict.probability)

    def columns(self, columns: Columns) -> None:
        """The same for many at once."""
        self.rows += len(columns.points)
        for decision, count in enumerate(np.bincount(columns.decision, minlength=len(self.decisions)).tolist()):
            self.decisions[decision] += count
        self.scores.observe_all(columns.probability)

    def refused(self, errors: Sequence[FieldError]) -> None:
        """Count violations by field. A name that a client made up is counted as 'other': labels stay bounded."""
        for error in errors:
            name = error.path.rpartition("/")[2]
            self.violations[name if name in self._names else "other", error.kind] += 1

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self.requests[route, status] += 1
        self.latency[route].observe(seconds)

    def exposition(self) -> bytes:
        """The metrics in Prometheus' text format."""
        from prometheus_client import generate_latest
        from prometheus_client.platform_collector import PlatformCollector
        from prometheus_client.process_collector import ProcessCollector
        from prometheus_client.registry import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        text: bytes = generate_latest(registry)
        return text

    def collect(self) -> Iterator[Metric]:
        """The metrics as Prometheus' types."""
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        def counter(name: str, text: str, labels: Sequence[str], values: Mapping[Any, float]) -> Metric:
            family = CounterMetricFamily(f"creditmodel_{name}", text, labels=labels)
            for key, value in values.items():
                family.add_metric(key, value)
            return family

        yield counter(
            "requests", "Requests answered.", ["route", "code"], {(r, str(c)): n for (r, c), n in self.requests.items()}
        )
        latency = HistogramMetricFamily(
            "creditmodel_request_duration_seconds", "From the last byte in to the first byte out.", labels=["route"]
        )
        for route, histogram in self.latency.items():
            latency.add_metric([route], histogram.cumulative(), histogram.total)
        yield latency
        yield HistogramMetricFamily(
            "creditmodel_probability",
            "Probabilities of default that were answered.",
            buckets=self.scores.cumulative(),
            sum_value=self.scores.total,
        )
        decisions = dict(zip(self._decision_names, self.decisions, strict=False))
        yield counter("decisions", "Applicants by decision.", ["decision"], {(d,): n for d, n in decisions.items()})
        yield counter("violations", "Values outside the contract.", ["field", "kind"], self.violations)
        yield counter("rows", "Applicants scored.", [], {(): self.rows})
        yield counter("model_calls", "Calls of the model; rows per call tell how many share one.", [], {(): self.calls})
        yield GaugeMetricFamily("creditmodel_in_flight", "Requests not answered yet.", self.in_flight())
        if self.log is not None:
            yield from self._log_metrics(*self.log())
        if self.psi is not None:
            yield from _psi_metrics(*self.psi())
        if self._identity is not None:
            info = GaugeMetricFamily(
                "creditmodel_model_info", "The model that answers.", labels=list(self._identity.document())
            )
            info.add_metric(list(self._identity.document().values()), 1)
            yield info

    def _log_metrics(self, queued: int, written: int, dropped: int, failures: int) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily("creditmodel_scoring_log_queue_rows", "Rows that wait to be written.", queued)
        yield CounterMetricFamily("creditmodel_scoring_log_rows", "Rows written.", value=written)
        yield CounterMetricFamily(
            "creditmodel_scoring_log_dropped_rows", "Rows that found the queue full.", value=dropped
        )
        yield CounterMetricFamily(
            "creditmodel_scoring_log_failures", "Parts that could not be written.", value=failures
        )


def _psi_metrics(rows: int, indices: Mapping[str, float]) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    yield GaugeMetricFamily("creditmodel_psi_window_rows", "Latest logged applicants that the PSI is over.", rows)
    family = GaugeMetricFamily(
        "creditmodel_psi", "PSI of the latest logged applicants against the reference.", labels=["feature"]
    )
    for name, index in indices.items():
        family.add_metric([name], index)
    yield family
