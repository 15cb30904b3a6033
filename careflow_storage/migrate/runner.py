"""Check whether code for AWS S3 works with this endpoint, by making its calls.

Uses aioboto3 as such code does, with the default configuration. Works below a prefix of its own,
and erases everything afterwards.
"""

from __future__ import annotations

import secrets

from careflow_storage._s3.session import S3Session, plain_client
from careflow_storage.errors import InvalidInputError
from careflow_storage.migrate.code_checks import CODE_CHECKS
from careflow_storage.migrate.harness import Harness, OldCodeFinding
from careflow_storage.models import Model
from careflow_storage.recordings import validate_key
from careflow_storage.settings import StorageSettings

_PREFIX = "careflow-probe/"


class OldCodeReport(Model):
    """All findings, in order.

    ``left`` are keys that the check has stored and could not erase.
    """

    endpoint: str
    findings: tuple[OldCodeFinding, ...]
    left: tuple[str, ...] = ()

    @property
    def unchanged(self) -> bool:
        """Whether all calls work without a change."""
        return all(each.verdict == "works" for each in self.findings)


async def check_old_code(settings: StorageSettings, *, prefix: str = _PREFIX) -> OldCodeReport:
    """Try the calls of plain boto3 and aioboto3 code, and report what to change.

    Harmless: sends about 45 requests and stores a few hundred bytes below ``prefix``. Erases all
    of their versions again, which needs the capability deleteFiles.

    Args:
        prefix: The folder to work in. A key that is limited to a prefix must include it.

    Raises:
        InvalidInputError: The prefix is malformed, or does not end with a slash.
        NotConfiguredError: A setting is missing.
        StorageError: The first upload fails: wrong key, no such bucket, no connection.
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
                findings = [await harness.run(each) for each in CODE_CHECKS]
            finally:
                left = await harness.clean_up()
    finally:
        await session.close()
    return OldCodeReport(endpoint=session.origin, findings=tuple(findings), left=left)
