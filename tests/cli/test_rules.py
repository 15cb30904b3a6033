"""CORS and lifecycle rules by the command, and how rules, times and days are read."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer import BadParameter

from careflow_storage import InvalidInputError, StorageSettings
from careflow_storage.admin import CorsRule, LifecycleRule
from careflow_storage.cli.ui.rule_files import cors_rules, lifecycle_rules
from careflow_storage.cli.ui.values import parse_days, parse_moment, parse_positive_time
from tests.support.command import Command

GUIDE = [
    {
        "allowedHeaders": ["*"],
        "allowedMethods": ["GET", "PUT", "POST"],
        "allowedOrigins": ["https://your-domain.vercel.app", "http://localhost:3000"],
        "exposeHeaders": ["ETag"],
        "maxAgeSeconds": 3600,
    }
]
APP = "https://app.example"


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


def written(folder: Path, rules: Any) -> Path:
    file = folder / "rules.json"
    file.write_text(json.dumps(rules))
    return file


# --- cors -------------------------------------------------------------------------------


async def test_origins_are_allowed_and_added(command: Command) -> None:
    assert "refuse" in (await command("cors", "show")).err
    assert (await command("cors", "allow", APP)).code == 0
    ran = await command("cors", "allow", "http://localhost:3000", "--add", "--json")
    (rule,) = ran.items
    assert rule["allowed_origins"] == [APP, "http://localhost:3000"]
    (line,) = (await command("cors", "show")).lines[1:]
    assert f"{APP},http://localhost:3000" in line


async def test_no_origin_loses_access_without_a_yes(command: Command) -> None:
    await command("cors", "allow", APP)
    ran = await command("cors", "allow", "https://new.example", stdin="n\n")
    assert ran.code == 1
    assert APP in ran.err
    assert (await command("cors", "show", "--json")).items[0]["allowed_origins"] == [APP]
    ran = await command("cors", "allow", "https://new.example", "--yes", "--json")
    assert ran.items[0]["allowed_origins"] == ["https://new.example"]


async def test_the_rules_of_the_guide_are_set_from_its_file_after_a_yes(
    command: Command, tmp_path: Path
) -> None:
    await command("cors", "allow", APP)
    file = written(tmp_path, GUIDE)
    ran = await command("cors", "set", file, stdin="\n")
    assert ran.code == 1
    assert "- careflow-browser-uploads" in ran.err
    assert "+ careflow-rule-1" in ran.err
    ran = await command("cors", "set", file, stdin="y\n")
    assert ran.code == 0
    (rule,) = (await command("cors", "show", "--json")).items
    assert rule["allowed_methods"] == ["GET", "PUT", "POST"]
    ran = await command("cors", "set", file)
    assert ran.code == 0
    assert "already" in ran.err


async def test_what_show_prints_can_be_set_again_from_a_pipe(command: Command) -> None:
    await command("cors", "allow", APP)
    rules = (await command("cors", "show", "--json")).items
    rules[0]["max_age_seconds"] = 60
    ran = await command("cors", "set", "-", "--yes", stdin=json.dumps(rules))
    assert ran.code == 0
    assert "~ careflow-browser-uploads  max_age_seconds: 3600 -> 60" in ran.err
    assert (await command("cors", "show", "--json")).items == rules
    # The rules have used up stdin: nobody can answer there.
    assert (await command("cors", "set", "-", stdin="[]")).code == 2


async def test_a_rule_is_removed_after_a_yes(command: Command) -> None:
    await command("cors", "allow", APP)
    assert (await command("cors", "remove", "careflow-browser-uploads", stdin="")).code == 2
    ran = await command("cors", "remove", "careflow-browser-uploads", "--yes", "--json")
    assert ran.items == []
    ran = await command("cors", "remove", "careflow-browser-uploads", "--yes")
    assert ran.code == 3


@pytest.mark.integration
async def test_an_origin_without_scheme_is_refused_before_anything_is_asked(
    command: Command,
) -> None:
    await command("cors", "allow", APP)
    ran = await command("cors", "allow", "other.example")
    assert ran.code == 2
    assert "perhaps https://other.example" in ran.err
    assert "Remove that" not in ran.err


async def test_a_check_sends_a_preflight_request_as_browsers_do(
    seaweed_settings: StorageSettings,
) -> None:
    command = Command(seaweed_settings)
    await command("cors", "allow", APP)
    ran = await command("cors", "check", APP, "--header", "content-type", "--header", "x-a")
    assert ran.code == 0
    assert ran.lines[0] == f"{APP} may PUT"
    assert "careflow-browser-uploads" in ran.lines[1]
    ran = await command("cors", "check", "https://evil.example", "--method", "GET")
    assert ran.code == 1
    assert ran.lines[0] == "https://evil.example may not GET"
    assert "cors allow https://evil.example --add" in ran.err
    ran = await command("cors", "check", "https://evil.example", "--json")
    assert ran.code == 1
    assert ran.json["allowed"] is False


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("allow", "app.example"), "https://app.example"),
        (("allow", APP, "--method", "OPTIONS"), "OPTIONS"),
        (("allow", APP, "--name", "b2-mine"), "b2-mine"),
        (("allow", APP, "--max-age", "2d"), "86400"),
        (("check", "*"), "*"),
        (("check", APP, "--method", "PATCH"), "PATCH"),
        (("set", "no-such.json"), "no-such.json"),
    ],
)
async def test_what_cannot_be_a_cors_rule_is_refused_by_name(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("cors", *arguments)
    assert ran.code == 2
    assert expected in ran.err


def test_cors_rules_are_read_in_every_spelling() -> None:
    rule = CorsRule(
        name="app-uploads",
        allowed_origins=(APP,),
        allowed_methods=("PUT", "GET"),
        allowed_headers=("*",),
        expose_headers=("ETag",),
        max_age_seconds=60,
    )
    b2 = {
        "corsRuleName": "app-uploads",
        "allowedOrigins": [APP],
        "allowedOperations": ["s3_put", "s3_get"],
        "allowedHeaders": ["*"],
        "exposeHeaders": ["ETag"],
        "maxAgeSeconds": 60,
    }
    s3 = {
        "CORSRules": [
            {
                "ID": "app-uploads",
                "AllowedOrigins": [APP],
                "AllowedMethods": ["PUT", "GET"],
                "AllowedHeaders": ["*"],
                "ExposeHeaders": ["ETag"],
                "MaxAgeSeconds": 60,
            }
        ]
    }
    for content in ([rule.model_dump(mode="json")], b2, [b2], s3, {"corsRules": [b2]}):
        assert cors_rules(json.dumps(content)) == [rule]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("{", "not JSON"),
        ("3", "list of objects"),
        ("[3]", "rules[0]"),
        ('[{"allowedOrigins": "*", "allowedMethods": ["GET"]}]', "rules[0].allowedOrigins"),
        ('[{"allowedOrigins": [1], "allowedMethods": ["GET"]}]', "rules[0].allowedOrigins[0]"),
        ('[{"allowedMethods": ["GET"]}]', "rules[0].allowed_origins"),
        ('[{"allowedOrigin": ["*"]}]', "rules[0].allowedOrigin"),
        ('[{"ID": "a", "name": "b"}]', "rules[0].name"),
        ('[{"maxAgeSeconds": "1"}]', "rules[0]."),
        (
            '[{"allowedOrigins": ["*"], "allowedOperations": ["b2_upload_file"]}]',
            "allowedOperations[0]: 'b2_upload_file'",
        ),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_what_is_no_cors_rule_is_refused_by_its_place(content: str, expected: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        cors_rules(content)
    assert expected in refused.value.message


# --- lifecycle --------------------------------------------------------------------------


async def test_lifecycle_rules_are_shown_in_words(command: Command) -> None:
    assert "every version is kept" in (await command("lifecycle", "show")).err
    ran = await command(
        "lifecycle", "expire", "--hide-after", "365d", "--erase-after", "30d", stdin="y\n"
    )
    assert ran.code == 0
    assert "including existing ones: hidden 365 days after upload, erased 30 days later" in ran.err
    (line,) = (await command("lifecycle", "show")).lines[1:]
    assert line.startswith("recordings/")
    assert (
        "hidden 365 days after upload, erased 30 days later, "
        "unfinished uploads aborted after 7 days" in line
    )
    (rule,) = (await command("lifecycle", "show", "--json")).items
    assert (rule["hide_after_days"], rule["erase_after_days"]) == (365, 30)


async def test_recordings_do_not_expire_without_a_yes(command: Command) -> None:
    arguments = ("lifecycle", "expire", "--erase-after", "1w")
    assert (await command(*arguments, stdin="n\n")).code == 1
    assert (await command(*arguments, stdin="")).code == 2
    assert (await command(*arguments, "--json")).code == 2
    assert (await command("lifecycle", "show", "--json")).items == []
    # Giving up unfinished uploads loses no recording.
    assert (await command("lifecycle", "expire")).code == 0


async def test_lifecycle_rules_of_b2_are_set_from_a_file(command: Command, tmp_path: Path) -> None:
    await command("lifecycle", "expire", "--erase-after", "30d", "--yes")
    rules = [
        {
            "fileNamePrefix": "recordings/",
            "daysFromUploadingToHiding": None,
            "daysFromHidingToDeleting": 1,
        },
        {"fileNamePrefix": "tmp/", "daysFromUploadingToHiding": 2},
    ]
    ran = await command("lifecycle", "set", written(tmp_path, rules), stdin="y\n")
    assert ran.code == 0
    assert "~ recordings/  erase_after_days: 30 -> 1" in ran.err
    assert "+ tmp/  hidden 2 days after upload, never erased" in ran.err
    shown = (await command("lifecycle", "show", "--json")).items
    again = await command("lifecycle", "set", "-", stdin=json.dumps(shown))
    assert again.code == 0
    assert "already" in again.err


async def test_a_lifecycle_rule_is_removed_after_a_yes(command: Command) -> None:
    await command("lifecycle", "expire", "--prefix", "tmp/")
    assert (await command("lifecycle", "remove", "tmp/", stdin="no\n")).code == 1
    assert (await command("lifecycle", "remove", "tmp", "--yes")).code == 3
    ran = await command("lifecycle", "remove", "tmp/", "--yes", "--json")
    assert ran.items == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("expire", "--hide-after", "36h"), "36h"),
        (("expire", "--hide-after", "365"), "365"),
        (("expire", "--erase-after", "0d"), "0d"),
        (("expire", "--cancel-unfinished-after", "never"), "at least one must be set"),
        (("set", "no-such.json"), "no-such.json"),
    ],
)
async def test_what_cannot_be_a_lifecycle_rule_is_refused_by_name(
    command: Command, arguments: tuple[str, ...], expected: str
) -> None:
    ran = await command("lifecycle", *arguments)
    assert ran.code == 2
    assert expected in ran.err


@given(
    st.builds(
        LifecycleRule,
        prefix=st.text(max_size=20),
        hide_after_days=st.none() | st.integers(1, 9999),
        erase_after_days=st.none() | st.integers(1, 9999),
        cancel_unfinished_after_days=st.none() | st.integers(1, 9999),
    )
)
def test_lifecycle_rules_mean_the_same_in_b2s_words_and_in_ours(rule: LifecycleRule) -> None:
    native = {
        "fileNamePrefix": rule.prefix,
        "daysFromUploadingToHiding": rule.hide_after_days,
        "daysFromHidingToDeleting": rule.erase_after_days,
        "daysFromStartingToCancelingUnfinishedLargeFiles": rule.cancel_unfinished_after_days,
    }
    assert lifecycle_rules(json.dumps([native])) == [rule]
    assert lifecycle_rules(json.dumps([rule.model_dump(mode="json")])) == [rule]


@pytest.mark.slow
@given(
    st.text(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["rules", "name", "prefix", "ID", "x"]), inner, max_size=3
            )
        ),
    ).map(json.dumps)
)
def test_any_file_of_rules_is_read_or_refused(text: str) -> None:
    for read in (cors_rules, lifecycle_rules):
        try:
            assert isinstance(read(text), list)
        except InvalidInputError:
            continue


# --- lengths of time and dates ----------------------------------------------------------


@given(st.integers(1, 999_999), st.sampled_from(["d", "w"]), st.sampled_from(["", " "]))
def test_days_are_read_in_common_notations(count: int, unit: str, space: str) -> None:
    days = count * (7 if unit == "w" else 1)
    assert parse_days(f"{count}{space}{unit}") == days
    assert parse_positive_time(f"{count}{unit}") == timedelta(days=days)


@pytest.mark.parametrize("text", ["", "d", "-1d", "1.5d", "12h", "0w", "30 years", "1e3d"])
def test_a_text_that_is_not_a_number_of_days_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_days(text)


@given(
    st.datetimes(
        min_value=datetime(2, 1, 1),  # noqa: DTZ001 - hypothesis wants it so
        max_value=datetime(9998, 1, 1),  # noqa: DTZ001
        timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))),
    )
)
def test_times_are_read_back_in_utc(moment: datetime) -> None:
    assert parse_moment(moment.isoformat()) == moment
    assert parse_moment(moment.isoformat()).utcoffset() == timedelta(0)
    naive = moment.replace(tzinfo=None)
    assert parse_moment(naive.isoformat()) == naive.replace(tzinfo=UTC)
    assert parse_moment(moment.date().isoformat()).hour == 0


@pytest.mark.slow
@given(st.text(max_size=30))
def test_whatever_is_typed_is_a_time_or_refused(text: str) -> None:
    for parse in (parse_moment, parse_days, parse_positive_time):
        try:
            assert parse(text) is not None
        except BadParameter:
            continue


@pytest.mark.parametrize("text", ["0001-01-01T00:00+10:00", "9999-12-31T23:00-10:00", "2027-02-30"])
def test_times_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        parse_moment(text)


async def test_the_origin_null_is_not_turned_into_a_host(command: Command) -> None:
    for arguments in (("cors", "allow", "null"), ("cors", "check", "null")):
        ran = await command(*arguments)
        assert ran.code == 2
        assert "sandboxed frames" in ran.err
        assert "https://null" not in ran.err


# --- what cannot be set -----------------------------------------------------------------

UNSETTABLE = {
    "one prefix twice": (
        "lifecycle",
        [{"prefix": "a/", "hide_after_days": 1}, {"prefix": "a/", "hide_after_days": 2}],
        "rules[1].prefix: 'a/' is the prefix of rules[0] already",
    ),
    "one prefix twice, the last as it is": (
        "lifecycle",
        [{"prefix": "kept/", "hide_after_days": 9}, {"prefix": "kept/", "hide_after_days": 1}],
        "rules[1].prefix: 'kept/' is the prefix of rules[0] already",
    ),
    "no days": ("lifecycle", [{"prefix": "a/", "hide_after_days": 0}], "rules[0].hide_after_days"),
    "too many": (
        "lifecycle",
        [{"prefix": f"{number}/", "hide_after_days": 1} for number in range(101)],
        "101 are too many",
    ),
    "one name twice": ("cors", [GUIDE[0] | {"name": "same-name"}] * 2, "rules[1].name"),
    "no origin": ("cors", [GUIDE[0] | {"allowedOrigins": []}], "rules[0].allowed_origins"),
    "too many CORS rules": ("cors", GUIDE * 101, "101 are too many"),
}


@pytest.mark.parametrize(("kind", "rules", "expected"), UNSETTABLE.values(), ids=UNSETTABLE)
@pytest.mark.parametrize("yes", [True, False])
async def test_rules_that_cannot_be_set_are_refused_before_the_question(
    command: Command, tmp_path: Path, kind: str, rules: Any, expected: str, yes: bool
) -> None:
    kept = [{"prefix": "kept/", "hide_after_days": 1}]
    await command("lifecycle", "set", written(tmp_path, kept), "--yes")
    await command("cors", "allow", APP)
    before = (await command(kind, "show", "--json")).items
    ran = await command(
        kind, "set", written(tmp_path, rules), *(["--yes"] if yes else []), stdin="y\n"
    )
    assert ran.code == 2
    assert expected in ran.err
    assert "Set these" not in ran.err
    assert "\n- " not in ran.err
    assert (await command(kind, "show", "--json")).items == before
