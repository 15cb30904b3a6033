"""An operator sets how long recordings are kept; the rules of others survive it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from careflow_storage import (
    AccessDeniedError,
    BackblazeStorage,
    InvalidInputError,
    NotSupportedError,
)
from careflow_storage.admin import LifecycleRule
from careflow_storage.admin.lifecycle_rules import from_s3, to_s3
from careflow_storage.testing import B2Server

pytest_plugins = ["careflow_storage.testing.plugin"]

ALL = LifecycleRule(
    prefix="recordings/",
    hide_after_days=365,
    erase_after_days=30,
    cancel_unfinished_after_days=7,
)
TEMPORARY = LifecycleRule(prefix="tmp/", hide_after_days=1)


@pytest.fixture
async def emulated(b2_server: B2Server) -> AsyncIterator[BackblazeStorage]:
    async with BackblazeStorage(b2_server.settings(_env_file=None)) as opened:
        yield opened


@pytest.fixture
async def storage(settings: Any) -> AsyncIterator[BackblazeStorage]:
    """On the fast server, which knows what S3 has and B2 has not."""
    async with BackblazeStorage(settings) as opened:
        yield opened


async def test_how_long_recordings_are_kept_is_one_call(emulated: BackblazeStorage) -> None:
    admin = emulated.admin
    assert await admin.get_lifecycle_rules() == []
    rules = await admin.expire_recordings(hide_after_days=365, erase_after_days=30)
    assert rules == [ALL]
    assert await admin.get_lifecycle_rules() == [ALL]
    client = await emulated.client()
    found = await client.get_bucket_lifecycle_configuration(Bucket=emulated.settings.bucket_name)
    expirations = [rule["Expiration"] for rule in found["Rules"] if "Expiration" in rule]
    assert expirations == [{"Days": 365}, {"ExpiredObjectDeleteMarker": True}], "B2's two rules"


async def test_one_rule_of_a_prefix_is_replaced_and_others_stay(
    emulated: BackblazeStorage,
) -> None:
    admin = emulated.admin
    await admin.set_lifecycle_rules([TEMPORARY, ALL])
    changed = ALL.model_copy(update={"hide_after_days": None})
    assert await admin.put_lifecycle_rule(changed) == [TEMPORARY, changed]
    assert await admin.get_lifecycle_rules() == [TEMPORARY, changed]
    assert await admin.remove_lifecycle_rule("tmp/") == [changed]
    assert await admin.remove_lifecycle_rule("never-was/") == [changed]
    assert await admin.remove_lifecycle_rule("recordings/") == []
    await admin.set_lifecycle_rules([])
    assert await admin.get_lifecycle_rules() == []
    counts = emulated.request_counts()
    assert (counts["PutBucketLifecycleConfiguration"], counts["DeleteBucketLifecycle"]) == (3, 2)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hide_after_days": -1}, "hide_after_days"),
        ({"erase_after_days": 0}, "erase_after_days"),
        ({"cancel_unfinished_after_days": True}, "cancel_unfinished_after_days"),
        ({"hide_after_days": 1.5}, "hide_after_days"),
        ({"prefix": "a\nb"}, "prefix"),
        ({"prefix": "x" * 1025}, "prefix"),
        ({"unsupported": ("rule 'x': is disabled",)}, "unsupported"),
        (dict.fromkeys(ALL.model_fields_set - {"prefix"}), "at least one must be set"),
    ],
)
async def test_a_rule_that_b2_would_refuse_is_named_and_not_sent(
    storage: BackblazeStorage, changes: dict[str, Any], field: str
) -> None:
    bad = ALL.model_copy(update=changes)
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.put_lifecycle_rule(bad)
    with pytest.raises(InvalidInputError, match=rf"rules\[1\]\..*{field}"):
        await storage.admin.set_lifecycle_rules([TEMPORARY, bad])
    assert storage.request_counts() == {}


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ([ALL, TEMPORARY, ALL], r"rules\[2\].prefix.*rules\[0\]"),
        ([TEMPORARY.model_copy(update={"prefix": f"{n}/"}) for n in range(101)], "101 are too"),
        ([ALL, "recordings/"], r"rules\[1\]"),
        (ALL, r"rules\[0\]"),
    ],
)
async def test_rules_that_do_not_go_together_are_not_sent(
    storage: BackblazeStorage, rules: Any, field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.set_lifecycle_rules(rules)
    assert storage.request_counts() == {}


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"hide_after_days": -1}, "hide_after_days.*-1"),
        ({"hide_after_days": "30"}, "hide_after_days"),
        ({"erase_after_days": True}, "erase_after_days"),
        ({"cancel_unfinished_after_days": None}, "at least one must be set"),
        ({"prefix": None}, "prefix"),
    ],
)
async def test_days_that_cannot_be_are_named_and_not_sent(
    storage: BackblazeStorage, days: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidInputError, match=field):
        await storage.admin.expire_recordings(**days)
    assert storage.request_counts() == {}


def test_days_are_whole_numbers() -> None:
    with pytest.raises(ValidationError, match="hide_after_days"):
        LifecycleRule(prefix="", hide_after_days=True)


async def test_the_hundred_and_first_prefix_is_refused(emulated: BackblazeStorage) -> None:
    full = [TEMPORARY.model_copy(update={"prefix": f"{number}/"}) for number in range(100)]
    await emulated.admin.set_lifecycle_rules(full)
    with pytest.raises(InvalidInputError, match="100"):
        await emulated.admin.put_lifecycle_rule(ALL)
    assert len(await emulated.admin.put_lifecycle_rule(full[7])) == 100


async def test_prefixes_may_lie_within_each_other(emulated: BackblazeStorage) -> None:
    inner = TEMPORARY.model_copy(update={"prefix": "recordings/tests/"})
    await emulated.admin.set_lifecycle_rules([ALL, inner])
    assert await emulated.admin.get_lifecycle_rules() == [ALL, inner]


FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({"Status": "Disabled", "Filter": {"Prefix": "old/"}, "Expiration": {"Days": 1}}, "disabled"),
    (
        {
            "Filter": {"Prefix": "old/"},
            "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
        },
        "another storage class",
    ),
    (
        {
            "Filter": {"And": {"Prefix": "old/", "Tags": [{"Key": "a", "Value": "b"}]}},
            "Expiration": {"Days": 1},
        },
        "with tags",
    ),
    (
        {
            "Filter": {"Prefix": "old/"},
            "Expiration": {"Date": datetime(2030, 1, 1, tzinfo=UTC)},
        },
        "on a date",
    ),
    (
        {
            "Filter": {"Prefix": "old/"},
            "NoncurrentVersionExpiration": {"NoncurrentDays": 3, "NewerNoncurrentVersions": 5},
        },
        "a number of old versions",
    ),
    (
        {"Filter": {"Prefix": "old/"}, "Expiration": {"ExpiredObjectDeleteMarker": True}},
        "delete markers",
    ),
]


@pytest.mark.parametrize(("foreign", "said"), FOREIGN[:-2])
async def test_rules_that_b2_has_not_are_shown_and_never_lost(
    storage: BackblazeStorage, foreign: dict[str, Any], said: str
) -> None:
    client, bucket = await storage.client(), storage.settings.bucket_name
    given = {"ID": "theirs", "Status": "Enabled", **foreign}
    await client.put_bucket_lifecycle_configuration(
        Bucket=bucket, LifecycleConfiguration={"Rules": [given]}
    )
    before = (await client.get_bucket_lifecycle_configuration(Bucket=bucket))["Rules"]
    (shown,) = await storage.admin.get_lifecycle_rules()
    assert (shown.prefix, shown.hide_after_days) == ("old/", None)
    assert "'theirs'" in shown.unsupported[0]
    assert said in shown.unsupported[0]
    # Rules of other prefixes come and go beside it.
    assert await storage.admin.put_lifecycle_rule(ALL) == [shown, ALL]
    after = (await client.get_bucket_lifecycle_configuration(Bucket=bucket))["Rules"]
    assert after[0] == before[0]
    for change in (
        storage.admin.put_lifecycle_rule(LifecycleRule(prefix="old/", hide_after_days=1)),
        storage.admin.remove_lifecycle_rule("old/"),
    ):
        with pytest.raises(NotSupportedError, match="theirs") as refused:
            await change
        assert "Nothing was changed" in (refused.value.hint or "")
    with pytest.raises(InvalidInputError, match=r"rules\[0\].unsupported"):
        await storage.admin.set_lifecycle_rules(await storage.admin.get_lifecycle_rules())
    assert (await client.get_bucket_lifecycle_configuration(Bucket=bucket))["Rules"] == after
    await storage.admin.set_lifecycle_rules([ALL])
    assert await storage.admin.get_lifecycle_rules() == [ALL]


@pytest.mark.parametrize(("foreign", "said"), FOREIGN)
def test_unsupported_rules_are_reported(foreign: dict[str, Any], said: str) -> None:
    (shown,) = from_s3([{"Status": "Enabled", **foreign}])
    assert shown.prefix == "old/"
    assert said in " ".join(shown.unsupported)
    assert shown.model_copy(update={"unsupported": ()}) == LifecycleRule(prefix="old/")


async def test_a_key_without_the_capability_is_denied(b2_server: B2Server) -> None:
    key = b2_server.create_key(capabilities={"readBuckets", "writeBuckets"})
    async with BackblazeStorage(b2_server.settings(key=key)) as limited:
        with pytest.raises(AccessDeniedError):
            await limited.admin.get_lifecycle_rules()
        with pytest.raises(AccessDeniedError):
            await limited.admin.set_lifecycle_rules([ALL])


days = st.none() | st.integers(1, 100_000)
rules_of = st.builds(
    LifecycleRule,
    prefix=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs"]), max_size=8),
    hide_after_days=days,
    erase_after_days=days,
    cancel_unfinished_after_days=days,
).filter(lambda rule: rule.model_dump(exclude={"prefix", "unsupported"}, exclude_none=True) != {})


@given(st.lists(rules_of, unique_by=lambda rule: rule.prefix, max_size=4), st.randoms(), st.data())
def test_rules_come_back_as_they_went(
    rules: list[LifecycleRule], dice: Any, data: st.DataObject
) -> None:
    described = [_respelled(each, data) for rule in rules for each in to_s3(rule)]
    assert len({each["ID"] for each in described}) == len(described)
    assert from_s3(described) == rules
    dice.shuffle(described)
    by_prefix = {rule.prefix: rule for rule in from_s3(described)}
    assert by_prefix == {rule.prefix: rule for rule in rules}


def _respelled(rule: dict[str, Any], data: st.DataObject) -> dict[str, Any]:
    """The same rule in another of S3's spellings."""
    rule = dict(rule)
    prefix = rule.pop("Filter")["Prefix"]
    spellings: list[dict[str, Any]] = [
        {"Filter": {"Prefix": prefix}},
        {"Filter": {"And": {"Prefix": prefix}}},
        {"Prefix": prefix},
    ]
    if prefix == "":
        spellings += [{}, {"Filter": {}}, {"Prefix": "", "Filter": {}}]
    return {**rule, **data.draw(st.sampled_from(spellings))}


@given(rules_of, rules_of)
def test_of_two_rules_for_a_prefix_the_shorter_clock_counts(
    one: LifecycleRule, other: LifecycleRule
) -> None:
    other = other.model_copy(update={"prefix": one.prefix})
    (joined,) = from_s3([*to_s3(one), *to_s3(other)])
    for clock in ("hide_after_days", "erase_after_days", "cancel_unfinished_after_days"):
        given_days = [getattr(rule, clock) for rule in (one, other)]
        assert getattr(joined, clock) == min(
            (each for each in given_days if each is not None), default=None
        )


async def test_a_real_server_takes_and_gives_the_rules(seaweed_storage: BackblazeStorage) -> None:
    admin = seaweed_storage.admin
    assert await admin.get_lifecycle_rules() == []
    await admin.set_lifecycle_rules([TEMPORARY])
    assert await admin.expire_recordings(hide_after_days=365, erase_after_days=30) == [
        TEMPORARY,
        ALL,
    ]
    everything = LifecycleRule(prefix="", cancel_unfinished_after_days=2)
    await admin.put_lifecycle_rule(everything)
    found = {rule.prefix: rule for rule in await admin.get_lifecycle_rules()}
    assert found == {"tmp/": TEMPORARY, "recordings/": ALL, "": everything}
    for prefix in found:
        await admin.remove_lifecycle_rule(prefix)
    assert await admin.get_lifecycle_rules() == []
