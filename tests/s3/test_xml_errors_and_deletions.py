"""Error documents, and batch deletions as requests and results."""

from __future__ import annotations

from typing import Any
from xml.etree import ElementTree

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from careflow_storage._s3.xml.documents import (
    ErrorDocument,
    build_delete_request,
    parse_delete_result,
    parse_error,
    parse_listing,
)
from careflow_storage.errors import (
    AccessDeniedError,
    InvalidInputError,
    ServerResponseError,
    ServiceUnavailableError,
)
from careflow_storage.models import DeleteResult
from tests.support.listings import (
    DELETED,
    ERROR,
    NAMESPACE,
)

# --- error documents --------------------------------------------------------------------


def test_an_error_document_gives_its_code_and_message() -> None:
    assert parse_error(ERROR) == ErrorDocument(
        "SlowDown", "no tomes available & busy", "8a1f", None, None
    )


def test_an_error_document_may_lack_anything() -> None:
    nothing = ErrorDocument(None, None, None, None, None)
    assert parse_error(b"<Error/>") == nothing
    assert parse_error(b"<Error><Code> </Code><Message></Message></Error>") == nothing


def test_the_right_place_is_taken_from_an_error_about_a_wrong_one() -> None:
    document = parse_error(
        b"<Error><Code>PermanentRedirect</Code><Endpoint>s3.eu.example.com</Endpoint>"
        b"<Region>eu</Region></Error>"
    )
    assert document is not None
    assert (document.region, document.endpoint) == ("eu", "s3.eu.example.com")


@pytest.mark.parametrize("length", [0, 1, 60, len(ERROR) - 3])
def test_an_error_document_that_is_cut_off_is_none(length: int) -> None:
    assert parse_error(ERROR[:length]) is None


@pytest.mark.parametrize("parse", [parse_listing, parse_delete_result])
def test_an_error_document_in_a_successful_response_is_the_error_it_tells(parse: Any) -> None:
    with pytest.raises(ServiceUnavailableError, match="no tomes") as caught:
        parse(ERROR)
    assert (caught.value.code, caught.value.request_id) == ("SlowDown", "8a1f")
    assert caught.value.retryable
    with pytest.raises(AccessDeniedError):
        parse(b"<Error><Code>AccessDenied</Code></Error>")


# --- deletions --------------------------------------------------------------------------


def test_each_key_of_a_batch_deletion_gets_its_result() -> None:
    document = parse_delete_result(DELETED)
    assert document.deleted == [
        DeleteResult(key="hidden", deleted=True, version_id="m1", delete_marker=True),
        DeleteResult(key="erased", deleted=True, version_id="v2"),
        DeleteResult(key="plain", deleted=True),
    ]
    assert document.failed == [
        DeleteResult(
            key="locked & kept",
            deleted=False,
            version_id="v9",
            error_code="AccessDenied",
            error_message="no",
        )
    ]


def test_a_result_without_a_key_is_refused() -> None:
    with pytest.raises(ServerResponseError, match="no Key"):
        parse_delete_result(b"<DeleteResult><Deleted/></DeleteResult>")


xml_text = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\ufffe\uffff").filter(
        lambda char: char >= " " or char in "\t\r\n"
    ),
    min_size=1,
)


@settings(deadline=None)  # machines may be busy
@given(st.lists(st.tuples(xml_text, st.none() | xml_text), min_size=1, max_size=5))
@example([("a\r\nb\rc\n]]>&<>\"'", "v&1")])
def test_a_deletion_request_says_exactly_what_to_delete(
    targets: list[tuple[str, str | None]],
) -> None:
    root = ElementTree.fromstring(build_delete_request(targets))  # noqa: S314 (our own)
    assert root.tag == f"{{{NAMESPACE}}}Delete"
    assert [
        (
            item.findtext(f"{{{NAMESPACE}}}Key"),
            item.findtext(f"{{{NAMESPACE}}}VersionId"),
        )
        for item in root
    ] == targets


@pytest.mark.parametrize("count", [0, 1001])
def test_a_deletion_request_of_none_or_too_many_is_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match=f"not {count}"):
        build_delete_request([("k", None)] * count)


@pytest.mark.parametrize("char", ["\0", "\x1f", "\ufffe", "\ud800"])
def test_a_key_that_xml_cannot_carry_is_refused_before_it_deletes_another(char: str) -> None:
    with pytest.raises(InvalidInputError, match="XML cannot carry"):
        build_delete_request([(f"a{char}", None)])
