"""Models that were made without validation are like any others, to whomever looks."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from careflow_storage._s3.xml import fast_path
from careflow_storage._s3.xml.documents import parse_listing
from careflow_storage._s3.xml.fast_path import make_models
from careflow_storage._s3.xml.versions import parse_versions
from careflow_storage.models import FileInfo, FileVersion, Model
from tests.support.listings import entry, listing

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
common = {
    "size": st.integers(0, 10**19 - 1),
    "last_modified": st.datetimes(timezones=st.just(UTC)),
    "etag": texts,
}
rows = {
    FileInfo: st.fixed_dictionaries({"key": texts, **common}),
    FileVersion: st.fixed_dictionaries(
        {
            "key": texts,
            "version_id": texts | st.none(),
            "is_latest": st.booleans(),
            "delete_marker": st.booleans(),
            **common,
        }
    ),
}


def seen(model: Model) -> dict[str, Any]:
    """All that anybody can see of a model."""
    return {
        "type": type(model),
        "state": model.__getstate__(),
        "order": list(model.__dict__),
        "types": [type(value) for value in model.__dict__.values()],
        "set": (type(model.model_fields_set), model.model_fields_set),
        "extra": model.model_extra,
        "repr": repr(model),
        "str": str(model),
        "hash": hash(model),
        "fields": list(model),
        "dump": model.model_dump(),
        "dump of what was set": model.model_dump(exclude_unset=True, exclude_defaults=True),
        "JSON": model.model_dump_json(indent=1),
        "ready for JSON": model.model_dump(mode="json"),
    }


COPIES: list[Callable[[Model], Model]] = [
    copy.copy,
    copy.deepcopy,
    lambda model: model.model_copy(),
    lambda model: model.model_copy(deep=True),
    lambda model: pickle.loads(pickle.dumps(model)),  # noqa: S301 - it is ours
    lambda model: type(model).model_validate(model),
    lambda model: type(model).model_validate_json(model.model_dump_json()),
    lambda model: type(model)(**dict(model)),
]


def check_alike(made: Model, validated: Model) -> None:
    assert made == validated
    assert validated == made
    assert {made: 1}[validated] == 1
    assert seen(made) == seen(validated)
    for copied in COPIES:
        assert copied(made) == made
        assert seen(copied(made)) == seen(copied(validated))
    changed = made.model_copy(update={"size": 7})
    assert seen(changed) == seen(validated.model_copy(update={"size": 7}))
    assert seen(made) == seen(validated)


@pytest.mark.parametrize("model", rows, ids=lambda model: model.__name__)
@settings(deadline=None)  # machines may be busy
@given(data=st.data())
def test_a_model_that_was_made_is_like_a_validated_one(
    model: type[FileInfo | FileVersion], data: st.DataObject
) -> None:
    drawn = data.draw(st.lists(rows[model], max_size=3))
    values = [{name: each[name] for name in model.model_fields} for each in drawn]
    validated = [model.model_validate(dict(each)) for each in values]
    made = make_models(model, values)
    assert made == validated
    for one, other in zip(made, validated, strict=True):
        check_alike(one, other)


MODEL = {
    "key": "k",
    "size": 1,
    "last_modified": datetime(2026, 11, 23, 6, 36, 9, tzinfo=UTC),
    "etag": "e",
}


def test_a_model_that_was_made_is_frozen_and_shares_nothing_with_the_others() -> None:
    first, second = make_models(FileInfo, [dict(MODEL), dict(MODEL)])
    for name, value in {"size": 2, "other": 2, "model_extra": {}}.items():
        with pytest.raises(ValueError, match=r"frozen|not permitted|no field"):
            setattr(first, name, value)
    with pytest.raises(ValueError, match="frozen"):
        del first.size
    first.model_fields_set.clear()
    assert second.model_fields_set == set(MODEL)
    assert FileInfo.model_validate(MODEL).model_fields_set == set(MODEL)


def test_a_pydantic_that_keeps_other_things_in_a_model_makes_them_itself() -> None:
    with mock.patch.object(fast_path, "_PYDANTIC_IS_KNOWN", False):
        (made,) = make_models(FileInfo, [dict(MODEL)])
        with pytest.raises(ValueError, match="Input should be"):
            make_models(FileInfo, [{**MODEL, "size": "many"}])
    check_alike(made, FileInfo.model_validate(MODEL))
    assert fast_path._PYDANTIC_IS_KNOWN


@pytest.mark.parametrize("text", ["2026-11-23T06:36:09.123Z", "2026-11-23T07:36:09+01:00"])
def test_what_a_page_gives_is_what_pydantic_would_have_made(text: str) -> None:
    inner = "".join(
        entry(key, size=size).replace("2026-11-23T06:36:09.000Z", text)
        for key, size in [("a &amp; b", "0"), ("ä", "9" * 19), ("", "007")]
    )
    for file in parse_listing(listing(inner)).files:
        check_alike(file, FileInfo.model_validate(dict(file), strict=True))
    stored = (
        f"<Version><Key>k</Key><VersionId>null</VersionId><IsLatest>true</IsLatest>"
        f'<LastModified>{text}</LastModified><ETag>"e"</ETag><Size>5</Size></Version>'
    )
    hidden = (
        f"<DeleteMarker><Key>k</Key><VersionId>v</VersionId><IsLatest>false</IsLatest>"
        f"<LastModified>{text}</LastModified></DeleteMarker>"
    )
    page = parse_versions(f"<ListVersionsResult>{stored}{hidden}</ListVersionsResult>".encode())
    for version in page.versions:
        check_alike(version, FileVersion.model_validate(dict(version), strict=True))
