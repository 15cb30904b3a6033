"""Check whether the bucket locks every new file, before anything is stored.

No key could erase a locked probe for days or years, and each run would leave another one.
"""

from __future__ import annotations

from careflow_storage.doctor.checks.bucket import retention_in_words
from careflow_storage.doctor.context import DoctorContext
from careflow_storage.doctor.explain import outcome_of
from careflow_storage.doctor.models import Outcome, warned
from careflow_storage.errors import (
    AccessDeniedError,
    CapExceededError,
    NoSuchConfigurationError,
    NotSupportedError,
    StorageError,
)


async def default_retention(context: DoctorContext) -> Outcome | None:
    """Read the default retention. If the key may not, the first upload shows it."""
    transfer = await context.transfer()
    try:
        response = await transfer.control.call("get_object_lock_configuration", None, {}, dict)
    except (NoSuchConfigurationError, NotSupportedError):
        return None
    except CapExceededError:
        raise
    except AccessDeniedError:
        context.locks_are_unread = True
        return None
    except StorageError as error:
        context.locks_are_unread = True
        return outcome_of(error)
    words = retention_in_words(response.get("ObjectLockConfiguration", {}))
    return None if words is None else locks(context, words)


def wants_md5(error: StorageError) -> bool:
    """Whether an upload was refused because it has no Content-MD5.

    AWS and B2 require the header for each file that gets a retention (Amazon S3 User Guide,
    "Object Lock considerations"; drakkan/sftpgo#1336).
    """
    return error.status == 400 and "content-md5" in error.message.lower()


def locks(context: DoctorContext, words: str) -> Outcome:
    """Note that nothing may be stored, and return the finding about it."""
    context.locks = words
    return warned(
        f"The bucket locks every new file by default: {words}.",
        "A file is kept and billed until its retention ends, even if it is deleted. So no probe "
        "is stored here: it could not be erased.",
        "Ignore this if it is intended. Uploads need checksum='md5', the default; presigned "
        "uploads need Content-MD5 among their signed headers.",
    )
