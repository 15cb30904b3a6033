"""Access to the caller's memory, without a copy where that is safe."""

from __future__ import annotations

from typing import Any

from careflow_storage.errors import InvalidInputError

_BYTES_HINT = "Pass bytes: the object's own tobytes(), or bytes(...) of it."


def view_of(data: Any) -> memoryview | None:
    """Return a view of the bytes of ``data``, without a copy; None if it is not a buffer.

    Accepts every object with the buffer protocol: bytearray, memoryview, array, ctypes, mmap,
    numpy.

    Raises:
        InvalidInputError: The memory is not contiguous, contains references to Python objects,
            or was released.
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
        raise _refusal(data, "its memory is not contiguous in item order")
    if "O" in view.format:
        raise _refusal(data, "it contains references to Python objects")
    # memoryview.cast accepts formats of one letter only, not those of ctypes and numpy.
    from pickle import PickleBuffer

    return PickleBuffer(view).raw()


def is_immutable(view: memoryview) -> bool:
    """Whether the bytes cannot be changed."""
    return isinstance(view.obj, bytes)


def copy_unless_immutable(chunk: Any) -> memoryview:
    """Return the bytes of a chunk; copy them unless the chunk is ``bytes``.

    The body may reuse its memory as soon as the next chunk is requested.

    Raises:
        InvalidInputError: The chunk is not bytes-like.
    """
    if type(chunk) is bytes:
        return memoryview(chunk)
    view = view_of(chunk)
    if view is None:
        hint = "Open the file in binary mode ('rb')." if isinstance(chunk, str) else None
        raise InvalidInputError(
            f"The body returned {type(chunk).__name__} instead of bytes.", hint=hint
        )
    return view if is_immutable(view) else memoryview(bytes(view))


def _refusal(data: Any, why: str) -> InvalidInputError:
    return InvalidInputError(
        f"A {type(data).__name__} cannot be read as contiguous bytes: {why}.", hint=_BYTES_HINT
    )
