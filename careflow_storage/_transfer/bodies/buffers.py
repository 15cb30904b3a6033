"""Bytes in the caller's memory: which objects have them, and who may change them until when."""

from __future__ import annotations

from typing import Any

from careflow_storage.errors import InvalidInputError

_BYTES_HINT = "Pass bytes: the object's own tobytes(), or bytes(...) of it."


def view_of(data: Any) -> memoryview | None:
    """Return the memory of ``data`` as plain bytes, without a copy; None if it exposes none.

    Takes everything with the buffer protocol: bytearray, memoryview, array, ctypes, mmap, numpy.

    Raises:
        InvalidInputError: The memory has gaps or another order than its items, it holds
            references to objects, or it was released.
    """
    try:
        view = memoryview(data)
    except TypeError:
        return None
    except (ValueError, BufferError) as error:
        raise _refusal(data, str(error)) from error
    if view.format == "B" and view.ndim == 1 and view.c_contiguous:
        return view
    if not view.c_contiguous:
        raise _refusal(data, "its memory is not contiguous, in the order of its items")
    if "O" in view.format:
        raise _refusal(data, "it holds references to Python objects")
    # memoryview.cast knows the formats of one letter only: not those of ctypes and numpy.
    from pickle import PickleBuffer

    return PickleBuffer(view).raw()


def is_immutable(view: memoryview) -> bool:
    """Whether no code can change these bytes."""
    return isinstance(view.obj, bytes)


def owned(chunk: Any) -> memoryview:
    """Return a chunk's bytes as they are now, whatever becomes of its memory.

    The body may use that memory again as soon as it is asked for the next chunk. So everything
    but ``bytes`` is copied.

    Raises:
        InvalidInputError: The chunk is not bytes-like.
    """
    if type(chunk) is bytes:
        return memoryview(chunk)
    view = view_of(chunk)
    if view is None:
        hint = "Open the file in binary mode ('rb')." if isinstance(chunk, str) else None
        raise InvalidInputError(
            f"The body gave {type(chunk).__name__} where bytes were expected.", hint=hint
        )
    return view if is_immutable(view) else memoryview(bytes(view))


def _refusal(data: Any, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"A {type(data).__name__} cannot be read as contiguous bytes: {why}.", hint=_BYTES_HINT
    )
