"""The command line of ``python -m benchmarks``."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Container, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmarks.plan import FULL, QUICK, WORKLOADS, Group, Scale, elsewhere, groups, settled

# Where awscrt can be imported, botocore signs with it, in every client that is built on botocore.
GUESTS = ("awscrt",)
SERVERS = ("rclone", "seaweed", "null")


@dataclass(frozen=True, slots=True)
class Choice:
    """The parsed command line. ``read`` names results to show instead of measuring.

    ``pythons`` are interpreters of clients that cannot live in one environment with the others.
    """

    groups: tuple[Group, ...]
    scale: Scale
    memory_folder: Path
    json_path: Path | None = None
    charts_folder: Path | None = None
    budget_s: float | None = None
    read: tuple[Path, ...] = ()
    pythons: dict[str, str] = field(default_factory=dict)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--quick", action="store_true", help="small sizes, one round")
    add("--full", action="store_true", help="every client and every server of the plan")
    add("--only", nargs="+", choices=tuple(WORKLOADS), help="these workloads only")
    add("--clients", nargs="+", metavar="NAME", help="rows of these clients, or labels, only")
    add("--rounds", type=int, help="times that each row is measured")
    add("--loop", nargs="+", choices=("asyncio", "uvloop"), default=["asyncio"])
    add("--server", choices=SERVERS, help="this server in place of the plan's")
    add("--tls", action=argparse.BooleanOptionalAction, help="TLS in place of the plan's, or not")
    add("--rtt-ms", type=float, nargs="+", default=[0.0], help="round trips, on the null server")
    add("--mbit", type=float, default=0.0, help="bandwidth of the null server, each way")
    add("--budget-minutes", type=float, help="no further rounds when time runs short")
    add("--json", type=Path, help="write every sample to this file")
    add("--charts", type=Path, metavar="DIR", help="write the numbers of the charts here")
    add("--read", type=Path, nargs="+", help="show the results of these files; measure nothing")
    add("--python", nargs="+", default=[], metavar="CLIENT=PATH", help="its own interpreter")
    add("--dir", type=Path, help="folder for data; memory-backed is best")
    return parser


def parse(arguments: Sequence[str] | None = None) -> Choice:
    parser = _parser()
    chosen = parser.parse_args(arguments)
    far = any(chosen.rtt_ms) or chosen.mbit
    if far and chosen.server not in (None, "null"):
        parser.error("only the null server can be far away")
    scale = QUICK if chosen.quick else FULL
    if chosen.rounds is not None:
        scale = replace(scale, rounds=max(1, chosen.rounds))
    return Choice(
        groups=tuple(_groups(chosen)),
        scale=scale,
        memory_folder=chosen.dir or default_folder(),
        json_path=chosen.json,
        charts_folder=chosen.charts,
        budget_s=60 * chosen.budget_minutes if chosen.budget_minutes else None,
        read=tuple(chosen.read or ()),
        pythons=dict(one.split("=", 1) for one in chosen.python),
    )


def _groups(chosen: argparse.Namespace) -> list[Group]:
    planned = groups(
        chosen.only or (), chosen.clients or (), list(dict.fromkeys(chosen.loop)), full=chosen.full
    )
    own = {one.partition("=")[0] for one in chosen.python}
    return settled(
        [
            elsewhere(_without_guests(group, own), chosen.server, chosen.tls, rtt_ms, chosen.mbit)
            for rtt_ms in chosen.rtt_ms
            for group in planned
        ]
    )


def _without_guests(group: Group, own: Container[str]) -> Group:
    """Leave out clients that need an interpreter of their own and have none."""
    rows = (row for row in group.rows if row.client not in GUESTS or row.client in own)
    return replace(group, rows=tuple(rows))


def default_folder() -> Path:
    """Return shared memory where there is any, so that no disk is measured."""
    memory = Path("/dev/shm")  # noqa: S108
    return memory if memory.is_dir() else Path(tempfile.gettempdir())
