"""The storage options that a file system takes, and those that it refuses."""

from __future__ import annotations

from collections.abc import Iterable

from careflow_storage.errors import InvalidInputError

_OF_FSSPEC = {"listings_expiry_time", "max_paths", "use_listings_cache"}
# What a setting is called here, in s3fs, and in boto3.
_SECRET = {
    *("application_key", "key", "key_id", "password", "secret", "session_token", "settings"),
    *("token", "aws_access_key_id", "aws_secret_access_key", "aws_session_token"),
}


def check_storage_options(names: Iterable[str]) -> None:
    """Refuse options that nothing would read, and secrets, which would be sent to workers.

    Raises:
        InvalidInputError: An option is a secret, or holds one.
        TypeError: An option is unknown.
    """
    for name in names:
        if name in _SECRET:
            raise InvalidInputError(
                f"The storage option {name!r} would be pickled and sent to every worker.",
                hint="Set BACKBLAZE_* in the environment, or pass env_file, the path of a file "
                "with these lines.",
            )
        if name not in _OF_FSSPEC:
            raise TypeError(f"CareflowFileSystem() got an unexpected keyword argument {name!r}")
