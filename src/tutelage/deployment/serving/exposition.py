"""``/metrics``: counts in the form that Prometheus reads."""

from collections.abc import Iterator, Mapping
from typing import Any

from tutelage.core.errors import NotInstalled
from tutelage.deployment.serving.gate import Gate
from tutelage.deployment.serving.metrics import Metrics, Tally

_P = "tutelage_"


class Exposition:
    """Renders a server's counts.

    Args:
        metrics: What was counted.
        gate: Who waits, and who was turned down.
        versions: Gives, when asked, name and version of the model, and of the candidate.

    Raises:
        NotInstalled: ``prometheus-client`` is missing.
    """

    def __init__(self, metrics: Metrics, gate: Gate, versions: Any):
        try:
            from prometheus_client import CollectorRegistry, ProcessCollector
        except ImportError as error:
            raise NotInstalled(
                'metrics need prometheus-client: pip install "tutelage[serve]"'
            ) from error
        self._metrics, self._gate, self._versions = metrics, gate, versions
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The text of this moment."""
        from prometheus_client import generate_latest

        return generate_latest(self._registry)

    def collect(self) -> Iterator[Any]:
        """What prometheus-client asks a collector for."""
        m, gate = self._metrics, self._gate
        shed = {"": gate.shed}
        yield _histogram("request_seconds", "From the whole request to the sent answer.", m.latency)
        p50, p99 = m.window.quantiles((0.5, 0.99))
        window = {"0.5": p50, "0.99": p99}
        yield _gauges("request_seconds_window", "The last minute's quantiles.", "quantile", window)
        yield _gauges("answers_per_second", "Of the last minute.", "", {"": m.window.rate()})
        statuses = {str(status): count for status, count in m.statuses.items()}
        if gate.unparsed:
            statuses["503"] = statuses.get("503", 0) + gate.unparsed
        yield _counters("requests", "Answered requests by status.", "status", statuses)
        yield _counters("shed", "Requests turned down because too many wait.", "", shed)
        yield _gauges("waiting", "Examples within the server.", "", {"": gate.waiting})
        yield _gauges("admitted", "Examples that are let in at once.", "", {"": gate.limit})
        yield _histogram("batch_size", "Examples of one run of the model.", m.batches)
        yield _histogram("confidence", "The largest probability of an answer.", m.confidence)
        yield _counters("predictions", "By predicted label.", "label", m.classes)
        yield from self._swapping()

    def _swapping(self) -> Iterator[Any]:
        m = self._metrics
        yield _counters("swaps", "Versions that took over.", "", {"": m.swaps})
        yield _counters("refused_versions", "Versions that were not taken.", "", {"": m.refusals})
        yield _counters("shadow", "Examples asked of the candidate.", "what", m.shadow)
        yield _histogram("shadow_logit_difference", "Largest of an example.", m.difference)
        largest = {"": m.largest}
        yield _gauges("shadow_logit_difference_largest", "Since the start.", "", largest)
        dropped = {"": m.traffic_dropped}
        yield _counters("traffic_dropped", "Answers that were not recorded.", "", dropped)
        yield _info(self._versions())


def _histogram(name: str, what: str, tally: Tally) -> Any:
    from prometheus_client.core import HistogramMetricFamily

    return HistogramMetricFamily(_P + name, what, buckets=tally.buckets(), sum_value=tally.sum)


def _gauges(name: str, what: str, label: str, values: Mapping[str, float]) -> Any:
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(_P + name, what, labels=[label] if label else None)
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _counters(name: str, what: str, label: str, values: Mapping[str, float]) -> Any:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(_P + name, what, labels=[label] if label else None)
    for key, value in values.items():
        family.add_metric([key] if label else [], value)
    return family


def _info(versions: Mapping[str, str]) -> Any:
    from prometheus_client.core import InfoMetricFamily

    return InfoMetricFamily(_P + "model", "Who answers.", value=dict(versions))
