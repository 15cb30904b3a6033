"""Read a customer key (SSE-C) from a file."""

from __future__ import annotations

from pathlib import Path

from careflow_storage.errors import InvalidInputError
from careflow_storage.protection import CustomerKey, Encryption

_LONGEST = 1024


def read_customer_key(path: Path | None) -> CustomerKey | None:
    """Read a key: 32 bytes, or their base64 with or without a line break at the end.

    Raises:
        InvalidInputError: The file cannot be read, or does not hold a key.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_LONGEST)
    except OSError as error:
        raise InvalidInputError(
            f"Cannot read --customer-key-file {str(path)!r}: {error.strerror}."
        ) from error
    if len(content) == 32:
        return CustomerKey(content)
    try:
        return CustomerKey.from_base64(content.decode("ascii").strip())
    except (UnicodeDecodeError, InvalidInputError):
        raise InvalidInputError(
            f"--customer-key-file {str(path)!r} must hold 32 bytes, or their base64.",
            hint="To make one: openssl rand -base64 32 > FILE. Files cannot be read without it.",
        ) from None


def chosen_encryption(encryption: str | None, key_file: Path | None) -> Encryption | None:
    """Return the encryption of ``--encryption`` or ``--customer-key-file``.

    Raises:
        InvalidInputError: Both are given, or the file holds no key.
    """
    if encryption is not None and key_file is not None:
        raise InvalidInputError("--encryption and --customer-key-file cannot be used together.")
    return read_customer_key(key_file) or ("SSE-B2" if encryption is not None else None)
