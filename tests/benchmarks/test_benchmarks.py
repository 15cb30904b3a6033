"""What the benchmarks make of their numbers. How large those are is no business of a test."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest

from benchmarks.aims import judge, render_aims
from benchmarks.budget import Budget
from benchmarks.children import run_child
from benchmarks.file_systems import MEASURED, run
from benchmarks.instructions import change, least_and_spread, per_call
from benchmarks.metrics import METRICS
from benchmarks.model import MIB, Endpoint, Job, Measurement, Sample
from benchmarks.null.content import expected
from benchmarks.options import parse
from benchmarks.places import serve
from benchmarks.plan import (
    FULL,
    QUICK,
    WORKLOADS,
    Place,
    elsewhere,
    estimate,
    groups,
    rounds_of,
    settled,
)
from benchmarks.players import measure
from benchmarks.report import best_line, render, section_table
from benchmarks.results import Report, Results, merged
from benchmarks.rows import ROWS, Row
from benchmarks.servers import null_server
from benchmarks.stats import Growth, growth, percentile, ratio, spread

_CLIENTS = Path(__file__).parents[2] / "benchmarks" / "clients"


def sample(cpu_s: float, *, ops: int = 1, wall_s: float = 1.0, **extra: float) -> Sample:
    return Sample(
        wall_s=wall_s,
        user_s=0.75 * cpu_s,
        system_s=0.25 * cpu_s,
        ops=ops,
        size=0,
        base_rss_mib=40.0,
        peak_rss_mib=extra.pop("peak", 90.0),
        lag_p50_ms=0.5,
        lag_p99_ms=extra.pop("lag", 4.0),
        lag_max_ms=9.0,
        preempted=0,
        extra=extra,
    )


def measurement(section: str, one: Sample) -> Measurement:
    return Measurement(0.1, 0.1, 0.2, 0.2, 95.0, {section: one})


def measured(name: str, section: str, samples: dict[str, list[Sample]], **place: object) -> Results:
    """Results of a workload's first group, changed so."""
    group = groups([name], full=True)[0]
    results = Results.of(replace(group, place=replace(group.place, **place)))  # type: ignore[arg-type]
    for label, ones in samples.items():
        assert label in {row.label for row in results.rows}
        results.measurements[label] = [measurement(section, one) for one in ones]
    return results


# --- plan -------------------------------------------------------------------------------


def test_every_workload_has_rows_metrics_and_ours() -> None:
    assert set(ROWS) == set(METRICS) == set(WORKLOADS)
    for name in WORKLOADS:
        assert any(row.client in ("ours", "careflow_storage") for row in ROWS[name]), name
        assert any(metric.charted for metric in METRICS[name]), name
        labels = [row.label for row in ROWS[name]]
        assert len(labels) == len(set(labels)), name


def test_every_row_has_a_client() -> None:
    there = {path.name.removesuffix("_client.py") for path in _CLIENTS.glob("*_client.py")}
    wanted = {row.client for name, rows in ROWS.items() if name != "import" for row in rows}
    assert wanted <= there


def test_the_full_plan_has_every_server_both_ways_and_both_distances() -> None:
    places = [group.place for group in groups(full=True)]
    for server in ("rclone", "seaweed", "null"):
        assert {place.tls for place in places if place.server == server} == {True, False}
    assert {place.rtt_ms for place in places} == {0.0, 20.0, 80.0}


def test_groups_have_stable_names_of_their_own() -> None:
    chosen = groups(full=True, loops=("asyncio", "uvloop"))
    names = [group.name for group in chosen]
    assert len(names) == len(set(names))
    assert {"upload-tls", "upload-http", "download-tls", "small-http", "web-tls", "import"} <= set(
        names
    )
    assert "upload-tls-uvloop" in names
    assert "upload-tls-null-20ms-1000mbit" in names


def test_what_has_no_loop_is_measured_once() -> None:
    chosen = groups(["upload"], full=True, loops=("asyncio", "uvloop"))
    with_boto3 = [g.loop for g in chosen if any(row.client == "boto3" for row in g.rows)]
    assert set(with_boto3) == {"asyncio"}


def test_rows_can_be_chosen_by_client_and_label() -> None:
    chosen = groups(["upload"], ["obstore", "ours crc32", "s3fs"])
    assert [row.label for row in chosen[0].rows] == [
        *("ours crc32", "obstore", "obstore unsigned", "s3fs")
    ]


def test_another_place_takes_the_place_of_all_planned_ones() -> None:
    far = [elsewhere(group, None, True, 20.0, 0.0) for group in groups(["download"])]
    only = settled(far)
    assert [group.place for group in only] == [Place("null", tls=True, rtt_ms=20.0)]
    # What ours uploaded cannot be read back from a server that keeps no bytes.
    assert all(row.source != "ours" for row in only[0].rows)


def test_command_line() -> None:
    choice = parse(
        [
            "--quick",
            "--only",
            "presign",
            "--rounds",
            "2",
            "--rtt-ms",
            "20",
            "80",
            "--loop",
            "asyncio",
            "uvloop",
        ]
    )
    assert choice.scale == replace(QUICK, rounds=2)
    assert [group.place.rtt_ms for group in choice.groups] == [20.0, 20.0, 80.0, 80.0]
    assert {group.loop for group in choice.groups} == {"asyncio", "uvloop"}
    assert not any(row.client == "awscrt" for row in _rows("--full", "--only", "download"))
    given = ("--full", "--only", "download", "--python", "awscrt=/venv/bin/python")
    assert any(row.client == "awscrt" for row in _rows(*given))
    with pytest.raises(SystemExit):
        parse(["--server", "rclone", "--rtt-ms", "20"])


def _rows(*arguments: str) -> list[Row]:
    return [row for group in parse(arguments).groups for row in group.rows]


def test_a_budget_is_shared_out_and_one_round_is_always_measured() -> None:
    chosen = groups(["upload"])
    now = [0.0]
    budget = Budget(chosen, FULL, 100.0, clock=lambda: now[0])
    budget.begin(chosen[0])
    assert budget.another(0)
    now[0] = 20.0
    assert budget.another(1)
    now[0] = 40.0
    assert not budget.another(2)  # half of the time belongs to the second group
    budget.begin(chosen[1])
    now[0] = 1000.0
    assert budget.another(0)
    assert not budget.another(1)


def test_without_a_budget_all_rounds_are_measured() -> None:
    chosen = groups(["import"])
    budget = Budget(chosen, FULL, None, clock=lambda: 1e9)
    budget.begin(chosen[0])
    assert budget.another(1000)


def test_the_estimate_counts_rounds() -> None:
    chosen = groups(["upload"])
    once = estimate(chosen, replace(FULL, rounds=1)).total
    assert estimate(chosen, FULL).total == pytest.approx(FULL.rounds * once)
    assert rounds_of(groups(["soak"])[0], FULL) == 1


# --- statistics -------------------------------------------------------------------------


def test_spread() -> None:
    found = spread([3.0, 1.0, 10.0])
    assert found is not None
    assert (found.middle, found.least, found.greatest, found.count) == (3.0, 1.0, 10.0, 3)
    assert spread([]) is None


def test_ratio_is_theirs_by_ours() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None
    assert ratio(3.0, 0.0) is None


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 50), (0.99, 99), (0.991, 100), (1.0, 100)]
)
def test_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_percentile_of_one_and_of_none() -> None:
    assert percentile([7.0], 0.99) == 7.0
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)


@pytest.mark.parametrize(
    ("readings", "plateau", "leaks"),
    [
        ([70, 75, 75.2, 75.1, 75.3, 75.2], 75.2, False),
        ([70, 75, 80, 85, 90, 95], 75, True),
        ([70, 70.5, 71, 71.5, 72, 73.1], 70.5, True),
        ([300, 305, 306, 307, 308, 311], 306, False),
    ],
)
def test_growth_is_told_from_the_first_plateau(
    readings: list[float], plateau: float, leaks: bool
) -> None:
    found = growth(readings)
    assert found is not None
    assert (found.plateau, found.leaks) == (plateau, leaks)


def test_growth_needs_readings() -> None:
    assert growth([70.0, 71.0]) is None
    assert Growth(70.0, 69.0).grown == -1.0


def test_instructions_of_a_call_are_what_the_longer_run_needs_more() -> None:
    counts = [900, 1100, 2100, 7, 260, 500]
    assert per_call({"head": 100, "sign": 10}, counts) == {"head": 10.0, "sign": 24.0}
    with pytest.raises(RuntimeError, match="5 counts for 2 calls"):
        per_call({"head": 100, "sign": 10}, counts[:-1])


def test_of_several_counts_the_least_counts() -> None:
    least, apart = least_and_spread([{"head": 102.0}, {"head": 100.0}])
    assert (least, apart) == ({"head": 100.0}, {"head": 2.0})
    assert change(103.0, 100.0) == pytest.approx(3.0)
    assert change(103.0, None) is None


# --- tables -----------------------------------------------------------------------------


def uploads() -> Results:
    return measured(
        "upload",
        "upload",
        {
            "ours md5 (default)": [sample(2.0), sample(3.0), sample(2.5)],
            "ours sha256": [sample(1.8)],
            "obstore": [sample(2.0, wall_s=0.5, lag=5.0)],
            "aioboto3": [sample(5.0, lag=40.0, peak=500.0)],
        },
    )


def test_a_table_has_medians_spread_and_ratios_to_ours() -> None:
    text = section_table(uploads(), "upload")
    assert "2.50 (2.00-3.00)" in text
    assert "5.00 2.00x" in text  # aioboto3's CPU by ours
    assert "2.00 0.80x" in text
    assert "Content-MD5" in text


def test_the_best_peer_has_a_line_of_its_own() -> None:
    line = best_line(uploads(), "upload")
    assert "CPU s 2.00 (obstore; ours 1.25x of it)" in line
    assert "wall s 0.50 (obstore; ours 2.00x of it)" in line


def test_failures_stand_in_the_report() -> None:
    results = uploads()
    results.failures["s3fs"] = "RuntimeError: no"
    results.trouble = "the server did not start"
    text = render(results)
    assert "FAILED: s3fs: RuntimeError: no" in text
    assert "NOT MEASURED: the server did not start" in text


def test_memory_over_many_operations_is_told_reading_by_reading() -> None:
    one = sample(1.0, plateau_mib=70.5, grown_mib=9.0, leaks=1.0, rss_10=70.0, rss_20=79.5)
    text = render(measured("soak", "soak", {"ours": [one]}))
    assert "ours: LEAK; RSS 70.0, 79.5 MiB." in text


def test_a_group_without_any_numbers_renders() -> None:
    assert "upload-tls" in render(Results.of(groups(["upload"])[0]))


# --- JSON and aims ----------------------------------------------------------------------


def test_json_round_trip(tmp_path: Path) -> None:
    report = Report({"load": [0.1]}, [uploads()])
    report.groups[0].failures["s3fs"] = "no"
    path = tmp_path / "deep" / "results.json"
    report.write(path)
    assert Report.from_json(path.read_text()) == report
    assert list(path.parent.iterdir()) == [path]


def test_of_several_runs_the_last_counts() -> None:
    before, after = Report({"n": 1}, [uploads()]), Report({"n": 2}, [uploads()])
    after.groups[0].measurements.clear()
    assert merged([before, after]) == after


def test_jobs_travel_as_json() -> None:
    endpoint = Endpoint("http://127.0.0.1:1", "bench", "id", "secret")
    job = Job("small", "ours", endpoint, workers=(1, 64), calls=("put",), rate=1.5)
    assert Job.from_json(job.to_json()) == job


def test_aims_of_uploads() -> None:
    verdicts = {one.aim: one for one in judge(Report({}, [uploads()]))}
    equal = verdicts["upload over TLS: CPU, equal verification, <= 0.9x of obstore"]
    assert equal.met is True
    assert equal.measured == "0.90x (1.80 / 2.00)"
    assert verdicts["upload over TLS: wall <= 1x of the fastest peer"].met is False
    assert verdicts["upload over TLS: peak RSS <= 100 MiB"].met is True
    assert verdicts["upload over TLS: loop lag p99 <= 1x of obstore"].met is True
    assert verdicts["upload over TLS: loop lag p99 <= 0.2x of aioboto3"].met is True


def test_aims_of_all_other_workloads() -> None:
    soak = sample(1.0, plateau_mib=75.0, grown_mib=0.4, leaks=0.0)
    cold = [sample(0.3, wall_s=0.4)], [sample(1.0, wall_s=1.0)]
    report = Report(
        {},
        [
            measured("soak", "soak", {"ours": [soak]}),
            measured("cold", "first byte", {"ours": cold[0], "aioboto3": cold[1]}),
            measured(
                "web",
                "web",
                {
                    "ours": [sample(1.0, small_p99_ms=10.0)],
                    "aioboto3": [sample(1.0, small_p99_ms=29.0)],
                },
            ),
            measured("listing", "flat", {"ours": [sample(1.0)], "obstore": [sample(0.9)]}),
            measured(
                "small", "head x64", {"ours md5 (default)": [sample(0.5)], "obstore": [sample(1.0)]}
            ),
        ],
    )
    verdicts = {one.aim: one.met for one in judge(report)}
    assert verdicts["no growth of RSS over all operations"] is True
    assert verdicts["cold start to first byte: wall <= 0.5x of aioboto3"] is True
    assert verdicts["web app: p99 of small requests <= 0.33x of aioboto3"] is False
    assert verdicts["list: CPU per key <= 1x of obstore"] is False
    assert verdicts["head: CPU per operation <= 0.8x of obstore"] is True
    assert verdicts["put: CPU per operation <= 0.8x of obstore"] is None
    assert "| yes |" in render_aims(report)


def test_aims_of_nothing_are_not_measured() -> None:
    assert {one.met for one in judge(Report({}))} == {None}


# --- the real thing, tiny ---------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize(
    ("workload", "changes", "sections"),
    [
        (
            "small",
            {"size": 1024, "count": 20, "workers": (4,)},
            {"put x4", "get x4", "head x4", "delete x4"},
        ),
        ("listing", {"size": 1000}, {"flat"}),
        ("presign", {"seconds": 0.01, "workers": (1, 100)}, {"1 URLs", "100 URLs"}),
        ("soak", {"size": 64, "count": 100, "workers": (4,)}, {"soak"}),
        ("stream", {"size": 6 * 1024 * 1024}, {"stream"}),
        ("live", {"size": 40_000, "count": 3, "rate": 50.0}, {"3 writers"}),
    ],
)
def test_ours_against_the_null_server(
    tmp_path: Path, workload: str, changes: dict[str, object], sections: set[str]
) -> None:
    keys = {"prefix": "recordings/", "warm": "recordings/CA0", "main": "recordings/main.webm"}
    with null_server(tmp_path) as endpoint:
        job = replace(Job(workload, "ours", endpoint, keys=keys), **changes)  # type: ignore[arg-type]
        found = run_child(job)
    assert set(found.sections) == sections
    assert all(one.ops > 0 for one in found.sections.values())


def test_a_file_is_served_to_players_who_compare_it(tmp_path: Path) -> None:
    size = 3 * MIB + 1
    names = ("main", "warm")
    for name in names:
        (tmp_path / name).write_bytes(expected(0, size))
    with null_server(tmp_path) as endpoint:
        keys = dict.fromkeys(names, f"neutral/size-{size}.webm")
        paths = {name: str(tmp_path / name) for name in names}
        found = run_child(Job("serve", "ours", endpoint, keys=keys, paths=paths, size=size))
    (section,) = found.sections.values()
    assert (section.ops, section.size) == (4, size)


@pytest.mark.slow
def test_players_and_senders_use_an_app(tmp_path: Path) -> None:
    with null_server(tmp_path) as endpoint:
        key = f"recordings/CA1/size-{MIB}.webm"
        command = {"do": "players", "path": f"/play/{key}", "count": 3, "rate": 4 * MIB}
        command |= {"seconds": 1.0, "listing": "/list", "pause": 0.05}
        played = measure(endpoint, command)
        command = {"do": "uploads", "path": "/streamed", "count": 3, "size": MIB}
        stored = measure(endpoint, command)
    assert (played["errors"], played["failed_listings"]) == ([], {})
    assert played["statuses"] == {"206": 3}
    assert stored["statuses"] == {"201": 3}


@pytest.mark.slow
@pytest.mark.integration
def test_each_workload_of_a_file_system_runs(tmp_path: Path) -> None:
    sizes = {"listed": 5, "small": 3, "reads": 2, "big_blocks": 1}
    with serve(Place("seaweed"), tmp_path) as endpoint:
        common = {"endpoint": asdict(endpoint), "sizes": sizes, "folder": str(tmp_path)}
        run({**common, "kind": "ours", "name": "prepare"})
        for name in MEASURED:
            assert run({**common, "kind": "ours", "name": name})["cpu"] > 0


@pytest.mark.integration
def test_a_row_that_fails_is_reported_and_the_others_go_on(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    from benchmarks.run import run_group

    scale = replace(QUICK, presign_s=0.01, rounds=2)
    group = groups(["presign"], ["ours"])[0]
    broken = replace(group.rows[0], label="broken", client="no_such")
    group = replace(group, rows=(broken, *group.rows))
    results = run_group(group, scale, tmp_path, Budget([group], scale, None))
    assert "no_such" in results.failures["broken"]
    assert len(results.measurements["ours"]) == 2
    assert list(tmp_path.iterdir()) == []
