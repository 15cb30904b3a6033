"""What the bucket holds of an upload, compared with its ticket and with the browser's report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from careflow_storage._s3.requests.parts import ListedPart
from careflow_storage.browser.errors import UploadIncompleteError
from careflow_storage.browser.models import UploadedPart
from careflow_storage.browser.tickets import Ticket
from careflow_storage.errors import InvalidInputError

_NAMED = 10


def check_parts(
    ticket: Ticket, held: Sequence[ListedPart], reported: Iterable[UploadedPart] | None
) -> None:
    """Raise unless the parts are exactly the announced file.

    Raises:
        InvalidInputError: The report names a part twice, or one that the upload does not have.
        UploadIncompleteError: Parts are missing or have another size or ETag. A surplus part
            cannot be dropped: then ``missing`` is empty, and the upload must start again.
    """
    sizes = {part.number: part.size for part in held}
    expected = range(1, ticket.part_count + 1)
    wrong = {number for number in expected if sizes.get(number) != ticket.part_length(number)}
    if reported is not None:
        sent = _by_number(reported, expected)
        wrong |= {part.number for part in held if sent.get(part.number) != part.etag}
    surplus = sizes.keys() - set(expected)
    wrong -= surplus
    if not wrong and not surplus:
        return
    count = len(wrong or surplus)
    named = ", ".join(map(str, sorted(wrong or surplus)[:_NAMED]))
    raise UploadIncompleteError(
        f"{count} of {len(expected)} parts are missing or not as announced: "
        f"{named}{', ...' if count > _NAMED else ''}."
        if wrong
        else f"The bucket holds parts that the file does not have: {named}.",
        missing=sorted(wrong),
        key=ticket.key,
        hint="Send these parts again, then complete the upload."
        if wrong
        else "Abort the upload and start again.",
    )


def _by_number(reported: Iterable[UploadedPart], expected: range) -> dict[int, str]:
    etags: dict[int, str] = {}
    for part in reported:
        if part.number in etags or part.number not in expected:
            raise InvalidInputError(
                f"parts: there is no part {part.number}, or it is listed twice."
            )
        etags[part.number] = part.etag.removeprefix("W/").strip('"')
    return etags
