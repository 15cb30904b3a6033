"""The command: run the chosen workloads round by round, print tables, write JSON."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.about import about, summary
from benchmarks.aims import render_aims
from benchmarks.budget import Budget
from benchmarks.charts import write
from benchmarks.children import run_child
from benchmarks.model import Endpoint, Job, Measurement
from benchmarks.options import Choice, parse
from benchmarks.places import end_cleanly, say, serve, work_folder
from benchmarks.plan import Group, Scale, estimate, rounds_of
from benchmarks.report import render
from benchmarks.results import Report, Results, merged
from benchmarks.rows import Row
from benchmarks.stage import Stage

_NO_SERVER = Endpoint("", "", "", "")


class Player:
    """Runs rows round by round. A row that fails is recorded and not tried again."""

    def __init__(self, group: Group, scale: Scale, budget: Budget) -> None:
        self.results = Results.of(group)
        self._group = group
        self._rounds = rounds_of(group, scale)
        self._budget = budget

    def play(self, stage: Stage | None) -> None:
        if self._group.workload.name in ("cold", "import"):
            # Once unmeasured, so that all files are compiled and cached.
            self._round(stage, range(len(self._group.rows)), keep=False)
        for number in range(self._rounds):
            if not self._budget.another(number):
                say(f"  {number} of {self._rounds} rounds: the time is short")
                return
            # Interleaved, each round beginning with another row, so that drift hits all alike.
            count = len(self._group.rows)
            self._round(stage, [(number + i) % count for i in range(count)], keep=True)

    def _round(self, stage: Stage | None, order: Sequence[int], *, keep: bool) -> None:
        for index in order:
            row = self._group.rows[index]
            if row.label in self.results.failures:
                continue
            start = time.monotonic()
            try:
                measurement = _play(stage, row, self._group)
            except Exception as error:  # noqa: BLE001 - told in the table; the others go on
                self.results.failures[row.label] = f"{type(error).__name__}: {error}"
                say(f"  {row.label} failed: {error}")
                continue
            if keep:
                self.results.measurements.setdefault(row.label, []).append(measurement)
                say(
                    f"  {row.label}: {_line(measurement)} ({time.monotonic() - start:.1f} s in all)"
                )


def _play(stage: Stage | None, row: Row, group: Group) -> Measurement:
    if stage is None:
        return run_child(Job(group.workload.name, row.client, _NO_SERVER))
    return stage.play(row)


def _line(measurement: Measurement) -> str:
    return ", ".join(
        f"{name} {one.wall_s:.2f} s, CPU {one.cpu_s:.2f} s"
        for name, one in list(measurement.sections.items())[:4]
    )


def run_group(
    group: Group,
    scale: Scale,
    parent: Path,
    budget: Budget,
    pythons: Mapping[str, str] = MappingProxyType({}),
) -> Results:
    """Measure a group. The results hold the failures too."""
    player = Player(group, scale, budget)
    budget.begin(group)
    if not group.workload.places:
        player.play(None)
        return player.results
    try:
        with work_folder(parent) as folder, serve(group.place, folder, scale.keys) as endpoint:
            player.play(Stage(group, scale, folder, endpoint, pythons))
    except Exception as error:  # noqa: BLE001 - told in the report; the other groups go on
        player.results.trouble = f"{type(error).__name__}: {error}"
        say(f"{group.name}: {player.results.trouble}")
    return player.results


def measure(choice: Choice) -> Report:
    """Run all groups; the file is written after each, so that a stopped run is not lost."""
    scale, chosen = choice.scale, choice.groups
    report = Report(about(scale, sorted({group.loop for group in chosen})))
    say(f"{len(chosen)} tables, about {estimate(chosen, scale).total / 60:.0f} minutes")
    budget = Budget(chosen, scale, choice.budget_s)
    for number, group in enumerate(chosen, 1):
        say(f"[{number}/{len(chosen)}] {group.title} ...")
        results = run_group(group, scale, choice.memory_folder, budget, choice.pythons)
        report.groups.append(results)
        print(f"{render(results)}\n", flush=True)
        if choice.json_path is not None:
            report.write(choice.json_path)
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    choice = parse(arguments)
    end_cleanly()
    if choice.read:
        texts = (path.read_text(encoding="utf-8") for path in choice.read)
        report = merged([Report.from_json(text) for text in texts])
        for results in report.groups:
            print(f"{render(results)}\n")
    else:
        report = measure(choice)
    print(f"{render_aims(report)}\n\n{summary(report.about)}")
    if choice.charts_folder is not None:
        for path in write(report, choice.charts_folder):
            say(f"wrote {path}")


if __name__ == "__main__":
    main()
