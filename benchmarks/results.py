"""What was measured, as it is written to JSON and read from it again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.model import Answer, Sample
from benchmarks.plan import Group, Place
from benchmarks.rows import OURS
from benchmarks.stats import Spread, spread

Pick = Callable[[Sample], float | None]


@dataclass(frozen=True, slots=True)
class RowFacts:
    """What a table says of a row beside its numbers."""

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
    answers: dict[str, list[Answer]] = field(default_factory=dict)
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
        answers = {
            label: [Answer.from_dict(answer) for answer in answers]
            for label, answers in raw["answers"].items()
        }
        changed = {"place": Place(**raw["place"]), "rows": rows, "answers": answers}
        return cls(**{**raw, **changed})

    def sections(self) -> list[str]:
        """The measured sections, in the order in which they ran."""
        names: dict[str, None] = {}
        for answers in self.answers.values():
            for answer in answers:
                names.update(dict.fromkeys(answer.sections))
        return list(names)

    def samples(self, label: str, section: str) -> list[Sample]:
        answers = self.answers.get(label, [])
        return [answer.sections[section] for answer in answers if section in answer.sections]

    def spread(self, label: str, section: str, pick: Pick) -> Spread | None:
        values = [pick(sample) for sample in self.samples(label, section)]
        return spread([value for value in values if value is not None])

    def middle(self, label: str, section: str, pick: Pick) -> float | None:
        """The median, None where nothing was measured."""
        found = self.spread(label, section, pick)
        return found.middle if found else None

    def base(self) -> str | None:
        """The row that all others are compared with: ours, with its defaults."""
        return next((row.label for row in self.rows if row.ours), None)

    def peers(self) -> Iterator[RowFacts]:
        return (row for row in self.rows if not row.ours)


@dataclass(slots=True)
class Report:
    """A whole run. ``about`` tells where and with what the numbers were taken."""

    about: dict[str, Any]
    groups: list[Results] = field(default_factory=list)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        raw = json.loads(text)
        return cls(raw["about"], [Results.from_dict(group) for group in raw["groups"]])

    def write(self, path: Path) -> None:
        """Replace the file at once, so that a run that is stopped leaves a whole one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(path.name + ".new")
        beside.write_text(self.to_json(), encoding="utf-8")
        beside.replace(path)

    def of(self, workload: str, loop: str = "asyncio", **place: Any) -> Results | None:
        """The first group of a workload whose place has these properties."""
        for results in self.groups:
            fits = all(getattr(results.place, name) == value for name, value in place.items())
            if results.workload == workload and results.loop == loop and fits:
                return results
        return None


def merged(reports: Sequence[Report]) -> Report:
    """Several runs as one: of a group that is in more than one, the last counts."""
    groups = {group.name: group for report in reports for group in report.groups}
    return Report(reports[-1].about, list(groups.values()))
