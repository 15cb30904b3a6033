"""Files of rules: each spelling of the setting itself, and nothing that only looks like one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from careflow_storage import BackblazeStorage, InvalidInputError, StorageSettings
from careflow_storage.admin import CorsRule, LifecycleRule
from careflow_storage.cli.ui.rule_files import cors_rules, lifecycle_rules
from careflow_storage.testing import B2Server
from tests.support.cases import case
from tests.support.command import Command

pytest_plugins = ["careflow_storage.testing.plugin"]

APP = "https://app.example"
LIFECYCLE = {"daysFromHidingToDeleting": 1, "fileNamePrefix": ""}
CORS = {
    "corsRuleName": "webPlayers",
    "allowedOrigins": ["*"],
    "allowedOperations": ["s3_get"],
    "maxAgeSeconds": 3600,
}
S3_LIFECYCLE: dict[str, Any] = {
    "ID": "keep a year",
    "Status": "Enabled",
    "Filter": {"Prefix": "recordings/"},
    "Expiration": {"Days": 365},
    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
}


def bucket_of_b2(**lists: Any) -> dict[str, Any]:
    """What ``b2 bucket get`` prints."""
    return {
        "accountId": "0123456789ab",
        "bucketId": "4a48fe8875c6214145260818",
        "bucketInfo": {},
        "bucketName": "careflow-recordings-prod",
        "bucketType": "allPrivate",
        "corsRules": [],
        "defaultRetention": {"mode": None},
        "lifecycleRules": [],
        "options": ["s3"],
        "revision": 5,
        **lists,
    }


# Of neither setting, or of the other one.
FOREIGN = {
    "b2 bucket get, without rules": json.dumps(bucket_of_b2()),
    "b2 bucket get, with lifecycle rules": json.dumps(bucket_of_b2(lifecycleRules=[LIFECYCLE])),
    "b2 bucket get, with CORS rules": json.dumps(bucket_of_b2(corsRules=[CORS])),
    "a list of buckets": json.dumps([bucket_of_b2()]),
    "an unknown member": '{"items": []}',
    "an empty object": "{}",
    "an envelope of another case": '{"RULES": []}',
    "two envelopes": '{"rules": [], "lifecycleRules": [], "corsRules": []}',
    "null": "null",
    "a text": '"recordings/"',
    "a number": "7",
    "true": "true",
    "a list of texts": '["recordings/"]',
    "a list of lists": "[[]]",
    "a list of nulls": "[null]",
    "an envelope of null": '{"rules": null}',
    "an envelope of an object": '{"rules": {}}',
    "an envelope of a text": '{"rules": ""}',
    "rules and a stray member": '{"rules": [], "force": true}',
    "an empty file": "",
    "only blanks": " \n\t",
    "YAML": "rules:\n  - prefix: recordings/\n",
    "XML": "<LifecycleConfiguration/>",
    "two documents": "[] []",
    "two lists": "[]\n[]",
    "two envelopes on two lines": '{"rules": []}\n{"rules": []}',
    "a rule, and a line that is none": '{"prefix": "a/"}\n[]',
    "a rule, and half of one": '{"prefix": "a/"}\n{"prefix": ',
    "a comment": "[] // none",
    "a trailing comma": "[{},]",
    "NaN": '[{"hideAfterDays": NaN}]',
    "Infinity": '[{"maxAgeSeconds": Infinity}]',
    "an envelope twice": '{"rules": [{"prefix": "a/"}], "rules": []}',
    "a field twice": '[{"prefix": "a/", "prefix": "", "hideAfterDays": 1}]',
    "BOM of UTF-16": "\ufffe[]",
}
NO_LIFECYCLE = {
    **FOREIGN,
    "CORS rules of B2": json.dumps({"corsRules": []}),
    "CORS rules of S3": json.dumps({"CORSRules": []}),
    "one rule of CORS": json.dumps(CORS),
    "S3's rule without Status": '{"Rules": [{"Expiration": {"Days": 1}}]}',
    "S3's rule of unknown Status": '{"Rules": [{"Status": "On", "Expiration": {"Days": 1}}]}',
    "S3's rule with days as text": (
        '{"Rules": [{"Status": "Enabled", "Expiration": {"Days": "1"}}]}'
    ),
    "S3's rule with a misspelled action": '{"Rules": [{"Status": "Enabled", "Expire": {}}]}',
    "S3's rule with a misspelled filter": (
        '{"Rules": [{"Status": "Enabled", "Filter": {"prefix": "a/"}, "Expiration": {"Days": 1}}]}'
    ),
    "S3's rule with two prefixes": (
        '{"Rules": [{"Status": "Enabled", "Filter": {}, "Prefix": "a", "Expiration": {"Days": 1}}]}'
    ),
    "S3's and B2's rules in one list": json.dumps([S3_LIFECYCLE, LIFECYCLE]),
}
NO_CORS = {
    **FOREIGN,
    "lifecycle rules of B2": '{"lifecycleRules": []}',
    "lifecycle rules of S3": '{"Rules": []}',
    "lifecycle rules, capitals": '{"LifecycleRules": []}',
    "one rule of lifecycle": json.dumps(LIFECYCLE),
    "a rule with operations of the native API": json.dumps(
        [{**CORS, "allowedOperations": ["b2_download_file_by_name"]}]
    ),
}


@pytest.fixture
def command(settings: StorageSettings) -> Command:
    return Command(settings)


async def with_rules(storage: BackblazeStorage) -> tuple[list[CorsRule], list[LifecycleRule]]:
    await storage.admin.allow_browser_uploads(APP)
    await storage.admin.expire_recordings(hide_after_days=365, erase_after_days=30)
    return await rules_of(storage)


async def rules_of(storage: BackblazeStorage) -> tuple[list[CorsRule], list[LifecycleRule]]:
    return await storage.admin.get_cors_rules(), await storage.admin.get_lifecycle_rules()


@pytest.mark.parametrize(
    ("setting", "texts"),
    [("lifecycle", NO_LIFECYCLE), ("cors", NO_CORS)],
    ids=["lifecycle", "cors"],
)
async def test_a_file_in_another_format_changes_nothing_and_the_hint_shows_the_format(
    command: Command, storage: BackblazeStorage, setting: str, texts: dict[str, str]
) -> None:
    before = await with_rules(storage)
    for name, text in texts.items():
        with case(name):
            ran = await command(setting, "set", "-", "--yes", "--json", stdin=text)
            assert ran.code == 2, ran.out
            error = ran.error
            assert error["type"] == "InvalidInputError"
            assert error["message"]
            after = await rules_of(storage)
            assert after == before


@pytest.mark.parametrize("text", ["null", "{}", "", '{"Buckets": []}', "[1]", "- a"])
@pytest.mark.parametrize("read", [cors_rules, lifecycle_rules])
def test_the_hint_shows_the_accepted_formats(read: Any, text: str) -> None:
    with pytest.raises(InvalidInputError) as refused:
        read(text)
    assert "show --json" in str(refused.value.hint)
    assert "Rules" in str(refused.value.hint)


@pytest.mark.parametrize("setting", ["cors", "lifecycle"])
@pytest.mark.parametrize("text", ["[]", '{"rules": []}', "\ufeff[]"])
async def test_an_empty_list_removes_rules_only_when_the_bucket_is_named(
    b2_server: B2Server, setting: str, text: str, tmp_path: Any
) -> None:
    command = Command(b2_server.settings())
    async with BackblazeStorage(b2_server.settings()) as storage:
        before = await with_rules(storage)
        file = tmp_path / "rules.json"
        file.write_text(text, encoding="utf-8")
        for reply in ("y\n", "yes\n", "\n", "another-bucket\n"):
            ran = await command(setting, "set", file, stdin=reply)
            assert ran.code == 1
            assert "The file has no rules. Remove the only" in ran.err
        assert (await command(setting, "set", file, stdin="")).code == 2
        assert (await command(setting, "set", file, "--json")).code == 2
        assert await rules_of(storage) == before
        assert (await command(setting, "set", file, stdin=f"{b2_server.bucket}\n")).code == 0
        assert (await command(setting, "show", "--json")).items == []
        other = "lifecycle" if setting == "cors" else "cors"
        assert len((await command(other, "show", "--json")).items) == 1


@pytest.mark.parametrize(
    "content",
    [
        S3_LIFECYCLE,
        [S3_LIFECYCLE],
        {"Rules": [S3_LIFECYCLE]},
        {
            "TransitionDefaultMinimumObjectSize": "all_storage_classes_128K",
            "Rules": [S3_LIFECYCLE],
        },
        # As B2 gives them back: one action to a rule, and one that removes delete markers.
        {
            "Rules": [
                {
                    "ID": "a",
                    "Status": "Enabled",
                    "Prefix": "recordings/",
                    "Expiration": {"Days": 365},
                },
                {
                    "ID": "b",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "recordings/"},
                    "Expiration": {"ExpiredObjectDeleteMarker": True},
                },
                {
                    "ID": "c",
                    "Status": "Enabled",
                    "Filter": {"Prefix": "recordings/"},
                    "NoncurrentVersionExpiration": {"NoncurrentDays": 30},
                },
                {
                    "Status": "Enabled",
                    "Filter": {"And": {"Prefix": "recordings/"}},
                    "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
                },
            ]
        },
    ],
)
async def test_lifecycle_rules_of_s3_are_taken(
    command: Command, storage: BackblazeStorage, content: Any
) -> None:
    ran = await command("lifecycle", "set", "-", "--yes", stdin=json.dumps(content))
    assert ran.code == 0, ran.err
    assert await storage.admin.get_lifecycle_rules() == [
        LifecycleRule(
            prefix="recordings/",
            hide_after_days=365,
            erase_after_days=30,
            cancel_unfinished_after_days=7,
        )
    ]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"Status": "Disabled"}, "is disabled"),
        ({"Filter": {"Tag": {"Key": "a", "Value": "b"}}}, "with a tag"),
        ({"Filter": {"And": {"Prefix": "a/", "ObjectSizeLessThan": 9}}}, "below a size"),
        ({"Expiration": {"Date": "2030-01-01T00:00:00Z"}}, "hides on a date"),
        ({"Transitions": [{"Days": 1, "StorageClass": "GLACIER"}]}, "another storage class"),
        ({"Expiration": {"Days": 0}}, "must be 1 day or more"),
    ],
)
async def test_what_b2_lacks_of_s3s_rules_is_refused_by_name(
    command: Command, storage: BackblazeStorage, change: dict[str, Any], expected: str
) -> None:
    before = await with_rules(storage)
    text = json.dumps({"Rules": [{**S3_LIFECYCLE, **change}]})
    ran = await command("lifecycle", "set", "-", "--yes", "--json", stdin=text)
    assert ran.code == 2
    assert expected in ran.error["message"]
    assert await storage.admin.get_lifecycle_rules() == before[1]


_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_DAYS = st.none() | st.integers(1, 9999)


@given(
    st.lists(
        st.builds(
            LifecycleRule,
            prefix=_TEXTS,
            hide_after_days=_DAYS,
            erase_after_days=_DAYS,
            cancel_unfinished_after_days=_DAYS,
        ),
        max_size=4,
    )
)
def test_lifecycle_rules_that_are_printed_are_read_back(rules: list[LifecycleRule]) -> None:
    printed = [rule.model_dump(mode="json") for rule in rules]
    for ascii_only in (True, False):
        assert lifecycle_rules(json.dumps(printed, ensure_ascii=ascii_only)) == rules
        assert lifecycle_rules(json.dumps({"rules": printed}, ensure_ascii=ascii_only)) == rules
        lines = "".join(f"{json.dumps(each, ensure_ascii=ascii_only)}\n" for each in printed)
        assert not lines or lifecycle_rules(lines) == rules


@given(
    st.lists(
        st.builds(
            CorsRule,
            name=_TEXTS,
            allowed_origins=st.lists(_TEXTS, max_size=3).map(tuple),
            allowed_methods=st.lists(_TEXTS, max_size=3).map(tuple),
            allowed_headers=st.lists(_TEXTS, max_size=3).map(tuple),
            expose_headers=st.lists(_TEXTS, max_size=3).map(tuple),
            max_age_seconds=st.none() | st.integers(0, 86_400),
        ),
        max_size=4,
    )
)
def test_cors_rules_that_are_printed_are_read_back(rules: list[CorsRule]) -> None:
    printed = [rule.model_dump(mode="json") for rule in rules]
    for ascii_only in (True, False):
        assert cors_rules(json.dumps(printed, ensure_ascii=ascii_only)) == rules
        lines = "".join(f"{json.dumps(each, ensure_ascii=ascii_only)}\n" for each in printed)
        assert not lines or cors_rules(lines) == rules


async def test_a_rule_of_the_prefix_is_not_replaced_without_a_yes(
    command: Command, storage: BackblazeStorage
) -> None:
    _, before = await with_rules(storage)
    ran = await command("lifecycle", "expire", stdin="n\n")
    assert ran.code == 1
    assert "hide_after_days: 365 -> none" in ran.err
    assert await storage.admin.get_lifecycle_rules() == before
