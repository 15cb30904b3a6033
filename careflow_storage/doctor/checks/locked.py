"""Whether the bucket locks every new file: looked at before anything is stored.

A probe with a retention could be erased by no key for days or years, and each run would leave
another one.
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
    """Read the default retention; where the key may not, the first upload tells."""
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
    """Whether an upload without Content-MD5 was refused for that.

    AWS and B2 want the header for each file that gets a retention (Amazon S3 User Guide, "Object
    Lock considerations"; drakkan/sftpgo#1336).
    """
    return error.status == 400 and "content-md5" in error.message.lower()


def locks(context: DoctorContext, words: str) -> Outcome:
    """Remember that nothing may be stored, and say why."""
    context.locks = words
    return warned(
        f"The bucket locks every new file by default: {words}.",
        "A file is kept, and billed, until its retention ends, whatever is deleted. So no probe "
        "is stored here: it could not be erased.",
        "Nothing is to be done if that is meant. Uploads need checksum='md5', the default; "
        "presigned uploads need Content-MD5 among their signed headers.",
    )
