"""The errors of jobs themselves. Errors of single objects are in the report."""

from __future__ import annotations

from careflow_storage.errors import InvalidInputError, StorageError


class JobError(StorageError):
    """A job cannot begin or cannot go on. What its shards have finished is kept."""


class NoSuchJobError(JobError, InvalidInputError):
    """The bucket holds no job with this ID."""


class JobVersionError(JobError, InvalidInputError):
    """Another version of careflow-storage wrote the records of the job."""


class WorkerLostError(JobError):
    """The worker of a shard died, and so did those that the engine tried after it."""


class ClusterError(JobError):
    """The cluster cannot be reached, has no workers, or its workers cannot run the job."""
