"""Whether code that was written for AWS S3 keeps working against this endpoint: it is tried.

With aioboto3 as such code has it: the default configuration, no care for B2. Everything
happens below a prefix of its own and is erased again.
"""

from __future__ import annotations

import secrets

from careflow_storage._s3.session import S3Session, plain_client
from careflow_storage.errors import InvalidInputError
from careflow_storage.migrate.code_checks import ATTEMPTS
from careflow_storage.migrate.harness import Harness, OldCodeFinding
from careflow_storage.models import Model
from careflow_storage.recordings import validate_key
from careflow_storage.settings import StorageSettings

_PREFIX = "careflow-probe/"


class OldCodeReport(Model):
    """All findings, in the order in which they were made.

    ``left`` are keys of the check itself that could not be erased.
    """

    endpoint: str
    findings: tuple[OldCodeFinding, ...]
    left: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether all of it works as it is."""
        return all(each.verdict == "works" for each in self.findings)


async def check_old_code(settings: StorageSettings, *, prefix: str = _PREFIX) -> OldCodeReport:
    """Try what plain boto3 and aioboto3 code does, harmlessly, and say what to change in it.

    About 45 requests, a few hundred bytes, below ``prefix``; all versions of what was stored
    are erased again, which needs the capability deleteFiles.

    Args:
        prefix: Where to try; a key that is restricted to a prefix must be allowed there.

    Raises:
        InvalidInputError: The prefix cannot be one, or does not end with a slash.
        NotConfiguredError: A setting is missing.
        StorageError: Not even a file can be stored: wrong key, no such bucket, no connection.
    """
    validate_key(prefix)
    if not prefix.endswith("/"):
        raise InvalidInputError(f"prefix must end with a slash, not be {prefix!r}.")
    session = S3Session(settings)
    await session.open()
    try:
        async with plain_client(settings) as client:
            harness = Harness(session, client, f"{prefix}{secrets.token_hex(8)}/")
            try:
                findings = [await harness.try_out(each) for each in ATTEMPTS]
            finally:
                left = await harness.clean_up()
    finally:
        await session.close()
    return OldCodeReport(endpoint=session.origin, findings=tuple(findings), left=left)
