"""The plan: workloads, the servers they run on, their rows, their sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from benchmarks.model import MIB
from benchmarks.rows import ROWS, Row


@dataclass(frozen=True, slots=True)
class Place:
    """A server and the way to it. Only the null server can be made to be far away."""

    server: str
    tls: bool = False
    rtt_ms: float = 0.0
    mbit: float = 0.0

    def __str__(self) -> str:
        far = f", {self.rtt_ms:g} ms away" if self.rtt_ms else ""
        thin = f", {self.mbit:g} Mbit/s" if self.mbit else ""
        return f"{self.server} over {'TLS' if self.tls else 'HTTP'}{far}{thin}"


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of work.

    ``places`` are measured by default, ``more`` with ``--full``; charts of the first place's
    server do not name it. ``seconds`` is what a row takes at full size, all in all: the
    estimate that a budget is shared out by.
    """

    name: str
    title: str
    seconds: float
    places: tuple[Place, ...]
    more: tuple[Place, ...] = ()
    rounds: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One table: a workload at a place, on one event loop, and the clients that take part."""

    workload: Workload
    place: Place
    rows: tuple[Row, ...]
    loop: str = "asyncio"

    @property
    def name(self) -> str:
        """Return the name of its files: ``upload-tls``, ``small-http-seaweed``."""
        if not self.workload.places:
            return self.workload.name
        place, usual = self.place, self.workload.places[0].server
        parts = [self.workload.name, "tls" if place.tls else "http"]
        parts += [place.server] * (place.server != usual)
        parts += [f"{place.rtt_ms:g}ms"] * (place.rtt_ms > 0)
        parts += [f"{place.mbit:g}mbit"] * (place.mbit > 0)
        parts += [self.loop] * (self.loop != "asyncio")
        return "-".join(parts)

    @property
    def title(self) -> str:
        where = f", {self.place}" if self.workload.places else ""
        return f"{self.workload.title}{where}, {self.loop}"


@dataclass(frozen=True, slots=True)
class Scale:
    """The size of a plan. Sizes are bytes, times seconds."""

    transfer: int = 1024 * MIB
    warm: int = 24 * MIB
    small: int = 64 * 1024
    operations: int = 2000
    workers: tuple[int, ...] = (1, 64, 512)
    keys: int = 100_000
    presign_s: float = 1.0
    urls: tuple[int, ...] = (1, 100, 10_000)
    web_s: float = 10.0
    web_rate: float = 100.0
    live_calls: int = 1000
    live_mib: float = 6.0
    live_rate: float = 150.0
    soak: int = 100_000
    rounds: int = 3


FULL = Scale()
QUICK = Scale(
    transfer=128 * MIB,
    operations=400,
    workers=(1, 64),
    keys=5000,
    presign_s=0.2,
    urls=(1, 100),
    web_s=3.0,
    live_calls=100,
    live_mib=5.5,
    soak=5000,
    rounds=1,
)

_BOTH = (Place("rclone", tls=True), Place("rclone"))
_STORED = (Place("seaweed", tls=True), Place("seaweed"))
_FAR = tuple(Place("null", tls=True, rtt_ms=ms, mbit=1000) for ms in (20.0, 80.0))
_NULL = (Place("null"), Place("null", tls=True))
_NEAR = (Place("null", tls=True), Place("null"))

WORKLOADS = {
    one.name: one
    for one in (
        Workload("upload", "Upload of one file, multipart", 8, _BOTH, (*_NEAR, *_FAR)),
        Workload("download", "Download of one object to a file", 8, _STORED, (*_NEAR, *_FAR)),
        Workload("stream", "Upload of a stream of unknown length", 8, _BOTH, _NEAR),
        Workload("small", "Small objects", 14, _NULL, (*_STORED, *_FAR)),
        Workload("listing", "Listing of all keys", 6, _NULL[:1], (_NULL[1], _STORED[1])),
        Workload("presign", "Presigned GET URLs", 4, _NULL[:1]),
        Workload(
            "web",
            "Scheduled requests of a web app beside an upload",
            15,
            # On a real server its queue delays the slowest responses, not the client.
            (_NEAR[0], Place("rclone", tls=True)),
            (Place("rclone"), *_FAR),
        ),
        Workload("serve", "A file through a web app by ranges", 8, _STORED, _NEAR),
        Workload("live", "Live writers", 45, _NULL[:1], _NULL[1:], rounds=1),
        Workload("cold", "Process start to first byte", 2, _NULL[:1], _NULL[1:], rounds=7),
        Workload("import", "Import in a fresh interpreter", 1, (), rounds=7),
        Workload("soak", "Memory after many operations", 100, _NULL[:1], rounds=1),
    )
}
_NOWHERE = Place("none")


def groups(
    names: Sequence[str] = (),
    clients: Sequence[str] = (),
    loops: Sequence[str] = ("asyncio",),
    *,
    full: bool = False,
) -> list[Group]:
    """Return all groups, in order. Further event loops run at the usual places only."""
    return [
        group
        for loop in loops
        for name in names or WORKLOADS
        for place in _places(WORKLOADS[name], full and loop == loops[0])
        if (group := make_group(WORKLOADS[name], place, clients, loop, loops[0], full=full)).rows
    ]


def _places(workload: Workload, full: bool) -> tuple[Place, ...]:
    if not workload.places:
        return (_NOWHERE,)
    return workload.places + (workload.more if full else ())


def make_group(
    workload: Workload,
    place: Place,
    clients: Sequence[str] = (),
    loop: str = "asyncio",
    first_loop: str = "asyncio",
    *,
    full: bool = False,
) -> Group:
    """Return the rows that take part. A client without event loop runs with the first alone."""
    rows = tuple(
        row
        for row in ROWS[workload.name]
        if (full or not row.full_only or row.client in clients or row.label in clients)
        and (not clients or row.client in clients or row.label in clients)
        and (row.looped or loop == first_loop)
    )
    return Group(workload, place, rows, loop)


def elsewhere(
    group: Group, server: str | None, tls: bool | None, rtt_ms: float, mbit: float
) -> Group:
    """Return the group at another place. Only the null server can be far away."""
    if not group.workload.places:
        return group
    place = group.place
    if server is not None:
        place = replace(place, server=server)
    if tls is not None:
        place = replace(place, tls=tls)
    if rtt_ms or mbit:
        place = replace(place, server=server or "null", rtt_ms=rtt_ms, mbit=mbit)
    return replace(group, place=place)


def settled(chosen: Sequence[Group]) -> list[Group]:
    """Leave out groups that became equal when their place changed.

    Rows that their place cannot serve go, too.
    """
    named = {group.name: group for group in chosen}
    fitting = (
        replace(group, rows=tuple(r for r in group.rows if group.place.server not in r.not_on))
        for group in named.values()
    )
    return [group for group in fitting if group.rows]


@dataclass(slots=True)
class Estimate:
    """The duration of a plan in seconds; ``per_round`` by the group's name."""

    per_round: dict[str, float] = field(default_factory=dict)
    total: float = 0.0


def estimate(chosen: Sequence[Group], scale: Scale) -> Estimate:
    """Estimate from the seconds of each workload; a small scale takes a tenth."""
    factor = 1.0 if scale.transfer >= FULL.transfer else 0.15
    found = Estimate()
    for group in chosen:
        far = 1 + group.place.rtt_ms / 40
        one = group.workload.seconds * factor * far * len(group.rows)
        found.per_round[group.name] = one
        found.total += one * rounds_of(group, scale)
    return found


def rounds_of(group: Group, scale: Scale) -> int:
    return group.workload.rounds or scale.rounds
