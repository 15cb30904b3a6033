"""The aims of this SDK beside its peers, judged from a report.

An aim is told as ours divided by theirs, and met where that is no more than the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from benchmarks import metrics
from benchmarks.metrics import Metric
from benchmarks.report import best_peer, number, table, times
from benchmarks.results import Report, Results
from benchmarks.stats import ratio


@dataclass(frozen=True, slots=True)
class Verdict:
    """An aim and its verdict; ``met`` is None where the report lacks the numbers."""

    aim: str
    measured: str
    met: bool | None


@dataclass(frozen=True, slots=True)
class Versus:
    """Judge whether ours needs at most this share of what a row needs."""

    what: str
    section: str
    metric: Metric
    ours: str
    theirs: str
    limit: float

    def judge(self, results: Results | None) -> Verdict:
        aim = f"{self.what} <= {self.limit:.2g}x of {self.theirs}"
        if results is None:
            return Verdict(aim, "not measured", None)
        ours = results.middle(self.ours, self.section, self.metric.pick)
        theirs = results.middle(self.theirs, self.section, self.metric.pick)
        part = ratio(ours, theirs)
        if part is None:
            return Verdict(aim, "not measured", None)
        digits = self.metric.digits
        text = f"{times(part)} ({number(ours, digits)} / {number(theirs, digits)})"
        return Verdict(aim, text, part <= self.limit)


_MD5 = "ours md5 (default)"
_PEAK_MIB = 100.0
_UNKNOWN = "ours, part size unknown"


def judge(report: Report) -> list[Verdict]:
    """Return all verdicts, in the order of the workloads."""
    return [*_small(report), *_signing_and_listing(report), *_transfers(report), *_rest(report)]


def _small(report: Report) -> Iterator[Verdict]:
    results = report.of("small", server="null", tls=False, rtt_ms=0.0)
    for call in ("put", "get", "head"):
        # obstore signs the body's SHA-256 when it puts: the same work on both sides.
        ours = "ours sha256" if call == "put" else _MD5
        what = f"{call}: CPU per operation"
        yield Versus(what, f"{call} x64", metrics.CPU_US, ours, "obstore", 0.8).judge(results)


def _signing_and_listing(report: Report) -> Iterator[Verdict]:
    signing = report.of("presign")
    for count in ("1 URLs", "100 URLs"):
        what = f"presign: CPU per URL, {count.split(maxsplit=1)[0]} in a call"
        yield Versus(what, count, metrics.CPU_US_URL, "ours", "obstore", 0.2).judge(signing)
    listing = report.of("listing", server="null", tls=False, rtt_ms=0.0)
    what = "list: CPU per key"
    yield Versus(what, "flat", metrics.CPU_US_KEY, "ours", "obstore", 1.0).judge(listing)


def _transfers(report: Report) -> Iterator[Verdict]:
    for name, same, usual in (
        ("upload", "ours sha256", _MD5),
        ("download", _UNKNOWN, _UNKNOWN),
    ):
        results = report.of(name, tls=True, rtt_ms=0.0)
        over = f"{name} over TLS:"
        for what, metric, ours, theirs, limit in (
            ("CPU, equal verification,", metrics.CPU_S, same, "obstore", 0.9),
            ("loop lag p99", metrics.LAG_P99, usual, "obstore", 1.0),
            ("loop lag p99", metrics.LAG_P99, usual, "aioboto3", 0.2),
        ):
            yield Versus(f"{over} {what}", name, metric, ours, theirs, limit).judge(results)
        yield _as_fast_as_all(f"{over} wall <= 1x of the fastest peer", results, name, usual)
        yield _at_most(f"{over} peak RSS <= {_PEAK_MIB:g} MiB", results, name, usual)


def _rest(report: Report) -> Iterator[Verdict]:
    web = report.of("web", tls=True, rtt_ms=0.0)
    what = "web app: p99 of small requests"
    yield Versus(what, "web", metrics.SMALL_P99, "ours", "aioboto3", 1 / 3).judge(web)
    cold = report.of("cold", server="null", tls=False)
    what = "cold start to first byte: wall"
    yield Versus(what, "first byte", metrics.WALL_MS, "ours", "aioboto3", 0.5).judge(cold)
    soak = report.of("soak")
    yield _one("no growth of RSS over all operations", soak, "ours", _no_growth)


def _as_fast_as_all(aim: str, results: Results | None, section: str, label: str) -> Verdict:
    best = best_peer(results, section, metrics.WALL_S) if results else None
    ours = results.middle(label, section, metrics.WALL_S.pick) if results else None
    if best is None or ours is None:
        return Verdict(aim, "not measured", None)
    part = ours / best[1]
    return Verdict(aim, f"{times(part)} ({ours:.2f} / {best[1]:.2f}, {best[0]})", part <= 1.0)


def _at_most(aim: str, results: Results | None, section: str, label: str) -> Verdict:
    peak = results.middle(label, section, metrics.PEAK.pick) if results else None
    if peak is None:
        return Verdict(aim, "not measured", None)
    return Verdict(aim, f"{peak:.0f} MiB", peak <= _PEAK_MIB)


def _one(
    aim: str, results: Results | None, label: str, see: Callable[[Results, str], tuple[str, bool]]
) -> Verdict:
    if results is None or not results.measurements.get(label):
        return Verdict(aim, "not measured", None)
    text, met = see(results, label)
    return Verdict(aim, text, met)


def _no_growth(results: Results, label: str) -> tuple[str, bool]:
    plateau = results.middle(label, "soak", metrics.PLATEAU.pick)
    grown = results.middle(label, "soak", metrics.GROWN.pick)
    leaks = results.middle(label, "soak", metrics.LEAKS.pick)
    return f"{number(grown, 1)} MiB above {number(plateau, 1)} MiB", not leaks


def render_aims(report: Report) -> str:
    """Return the verdicts as a table."""
    words = {True: "yes", False: "NO", None: "-"}
    lines = [[one.aim, one.measured, words[one.met]] for one in judge(report)]
    return f"## Aims\n\n{table(('aim (ours / theirs)', 'measured', 'met'), lines)}"
