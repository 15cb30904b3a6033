"""The results, as they are written to JSON and read from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model import Measurement, Sample
from benchmarks.plan import Group, Place
from benchmarks.rows import OURS
from benchmarks.stats import Spread, spread

Pick = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class RowFacts:
    """The text of a row beside its numbers."""

    label: str
    client: str
    verifies: str

    @property
    def ours(self) -> bool:
        return self.client in (OURS, "careflow_storage")


@dataclass(slots=True)
class Results:
    """All samples of one group, by label of the row, in the order of the rounds.

    ``failures`` tells why a row has no samples, or none since; ``trouble`` why the group has none.
    """

    name: str
    workload: str
    title: str
    place: Place
    loop: str
    rows: list[RowFacts]
    measurements: dict[str, list[Measurement]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    trouble: str = ""

    @classmethod
    def of(cls, group: Group) -> Results:
        rows = [
            RowFacts(row.label, row.client, (group.place.tls and row.verifies_tls) or row.verifies)
            for row in group.rows
        ]
        return cls(group.name, group.workload.name, group.title, group.place, group.loop, rows)

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Results:
        rows = [RowFacts(**row) for row in raw["rows"]]
        measurements = {
            label: [Measurement.from_dict(measurement) for measurement in measurements]
            for label, measurements in raw["measurements"].items()
        }
        changed = {"place": Place(**raw["place"]), "rows": rows, "measurements": measurements}
        return cls(**{**raw, **changed})

    def sections(self) -> list[str]:
        """Return the measured sections, in the order in which they ran."""
        names: dict[str, None] = {}
        for measurements in self.measurements.values():
            for measurement in measurements:
                names.update(dict.fromkeys(measurement.sections))
        return list(names)

    def samples(self, label: str, section: str) -> list[Sample]:
        measurements = self.measurements.get(label, [])
        return [
            measurement.sections[section]
            for measurement in measurements
            if section in measurement.sections
        ]

    def spread(self, label: str, section: str, pick: Pick) -> Spread | None:
        values = [pick(sample) for sample in self.samples(label, section)]
        return spread([value for value in values if value is not None])

    def middle(self, label: str, section: str, pick: Pick) -> float | None:
        """Return the median, None where nothing was measured."""
        found = self.spread(label, section, pick)
        return found.middle if found else None

    def base(self) -> str | None:
        """Return the row that all others are compared with: ours, with its defaults."""
        return next((row.label for row in self.rows if row.ours), None)

    def peers(self) -> Iterator[RowFacts]:
        return (row for row in self.rows if not row.ours)


@dataclass(slots=True)
class Report:
    """A whole run. ``about`` describes the machine and the versions."""

    about: dict[str, Any]
    groups: list[Results] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        raw = json.loads(text)
        return cls(raw["about"], [Results.from_dict(group) for group in raw["groups"]])

    def write(self, path: Path) -> None:
        """Replace the file atomically, so that a stopped run leaves a complete one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_text(self.to_json(), encoding="utf-8")
        beside.replace(path)

    def of(self, workload: str, loop: str = "asyncio", **place: Any) -> Results | None:
        """Return the first group of a workload whose place has these properties."""
        for results in self.groups:
            fits = all(getattr(results.place, name) == value for name, value in place.items())
            if results.workload == workload and results.loop == loop and fits:
                return results
        return None


def merged(reports: Sequence[Report]) -> Report:
    """Merge runs; of a group that is in several, the last counts."""
    groups = {group.name: group for report in reports for group in report.groups}
    return Report(reports[-1].about, list(groups.values()))
