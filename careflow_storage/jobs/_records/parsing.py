"""Parses records, and refuses those that another version of this package wrote."""

from __future__ import annotations

from typing import Final, TypeVar

import pydantic_core
from pydantic import TypeAdapter, ValidationError

from careflow_storage.errors import InvalidInputError
from careflow_storage.jobs.errors import JobError, JobVersionError
from careflow_storage.jobs.models import AnyJob

VERSION: Final = 1
JOB: Final[TypeAdapter[AnyJob]] = TypeAdapter(AnyJob)

T = TypeVar("T")


def parsed(key: str, adapter: TypeAdapter[T], content: bytes | str) -> T:
    """Return the model in the record ``key``.

    Raises:
        JobVersionError: Another version wrote it.
        JobError: It is damaged.
    """
    problem = "it is no JSON"
    try:
        document = pydantic_core.from_json(content)
        version = document.get("version", VERSION) if isinstance(document, dict) else VERSION
        if version != VERSION:
            raise JobVersionError(
                f"The record has the version {version!r}, and this release reads {VERSION}.",
                key=key,
                hint="Use the release of careflow-storage with which the job was begun.",
            )
        return adapter.validate_json(content)
    except (ValidationError, InvalidInputError) as error:
        if isinstance(error, JobVersionError):
            raise
        problem = f"it is not what this release writes ({type(error).__name__})"
    except ValueError:
        pass
    raise JobError(f"The record cannot be read: {problem}.", key=key)
