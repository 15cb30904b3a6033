"""Ranges of keys: ``(after, until]`` in UTF-8 byte order, which a listing reads and checks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from careflow_storage.errors import InvalidInputError, ServerResponseError
from careflow_storage.recordings import MAX_KEY_BYTES

# Python compares strings by code points, and UTF-8 orders bytes as code points are ordered.


@dataclass(frozen=True, slots=True)
class ListedRange:
    """The keys above ``after``, up to and including ``until``; None is an open end."""

    after: str | None = None
    until: str | None = None

    def within(self, prefix: str) -> ListedRange | None:
        """Return the range of the keys that begin with ``prefix``; None if it has none.

        An end outside of the prefix becomes an open end.
        """
        after, until = self.after, self.until
        if after is not None and not after.startswith(prefix):
            if after > prefix:
                return None
            after = None
        if until is not None and not until.startswith(prefix):
            if until < prefix:
                return None
            until = None
        if after is not None and until is not None and after >= until:
            return None
        return ListedRange(after, until)


class OrderedPages:
    """Follows one listing of a range, and refuses keys that are not in UTF-8 byte order.

    Args:
        inclusive: Whether the listing may begin with ``after`` itself: B2 describes the key
            marker of versions as "the key that you want to start listing from".
        repeated: Whether a key may come several times in succession, once for each version.
    """

    def __init__(
        self,
        key_range: ListedRange,
        operation: str,
        *,
        inclusive: bool = False,
        repeated: bool = False,
    ) -> None:
        self._range = key_range
        self._operation = operation
        self._inclusive = inclusive
        self._repeated = repeated
        self._last = key_range.after
        self.ended = False

    def take(self, keys: Sequence[str]) -> slice:
        """Return which keys of the next page are in the range; set ``ended`` at its end.

        Raises:
            ServerResponseError: The keys are not in order, within the page or after the page
                before.
        """
        first = 0
        if self._inclusive and self._last == self._range.after:
            while first < len(keys) and keys[first] == self._range.after:
                first += 1
        self._check_order(keys, first)
        if first < len(keys):
            self._last = keys[-1]
        end, until = len(keys), self._range.until
        if until is not None and keys:
            # A key has further versions, perhaps, but no key comes twice.
            self.ended = keys[-1] > until or (keys[-1] == until and not self._repeated)
            while end > first and keys[end - 1] > until:
                end -= 1
        return slice(first, end)

    def _check_order(self, keys: Sequence[str], first: int) -> None:
        last = self._last
        for key in keys[first:]:
            if last is not None and key <= last and not self._continues(key, last):
                raise self._out_of_order(key)
            last = key

    def _continues(self, key: str, last: str) -> bool:
        return self._repeated and key == last and key != self._range.after

    def _out_of_order(self, key: str) -> ServerResponseError:
        after = self._range.after
        if after is not None and key <= after:
            why = "it lists keys that do not come after the one that was given"
        else:
            why = "its keys are not in UTF-8 byte order"
        return ServerResponseError(
            f"The server cannot list a range of keys: {why}.",
            operation=self._operation,
            key=key,
            hint=(
                "B2 and AWS S3 list in UTF-8 byte order. SeaweedFS, the embedded server, does not:"
                " list there without start_after and until."
            ),
        )


def checked_range(start_after: str | None, until: str | None) -> ListedRange | None:
    """Return the range, None if both ends are open.

    Raises:
        InvalidInputError: An end is no key, or ``until`` comes before ``start_after``.
    """
    if start_after is None and until is None:
        return None
    for name, end in (("start_after", start_after), ("until", until)):
        if end is not None:
            _check_end(name, end)
    if until == "":
        raise InvalidInputError(
            "until is empty, and no key comes before it.", hint="None lists to the last key."
        )
    if start_after is not None and until is not None and until < start_after:
        raise InvalidInputError(
            "until comes before start_after in UTF-8 byte order.",
            hint="The range is (start_after, until]; a range with equal ends is empty.",
        )
    return ListedRange(start_after or None, until)


def _check_end(name: str, end: str) -> None:
    # Any key may be an end, also one that another program has stored, with control characters.
    if not isinstance(end, str):
        raise InvalidInputError(f"{name} must be a str, not {type(end).__name__}.")
    try:
        size = len(end.encode("utf-8"))
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{name} must be valid Unicode.") from error
    if size > MAX_KEY_BYTES:
        raise InvalidInputError(
            f"{name} has {size} bytes of UTF-8, and no key has more than {MAX_KEY_BYTES}."
        )
