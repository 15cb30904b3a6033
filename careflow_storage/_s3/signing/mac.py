"""Message authentication codes at the price of a few hashes."""

from __future__ import annotations

from copy import copy
from hashlib import sha256


class Mac:
    """HMAC-SHA256 with its key, and the beginning of its message, hashed in (RFC 2104, section 4).

    Copying the two hashes costs half of copying one `hmac.HMAC`.
    """

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        block = key.ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in block))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in block))

    def begun(self, message: bytes) -> Mac:
        """Return one for messages that begin like this."""
        longer = copy(self)
        longer._inner = self._inner.copy()
        longer._inner.update(message)
        return longer

    def sign(self, rest: bytes) -> str:
        """Return the code of the message that ends like this, in hex."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(rest)
        outer.update(inner.digest())
        return outer.hexdigest()
