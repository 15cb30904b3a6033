"""The objects that all transfers of one storage share."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from careflow_storage._in_flight import InFlight
from careflow_storage._s3.requests.control_plane import ControlPlane
from careflow_storage._s3.requests.multipart import MultipartRequests
from careflow_storage._s3.requests.objects import S3Requests
from careflow_storage._s3.retry import RetryPolicy
from careflow_storage._s3.session import S3Session
from careflow_storage._transfer.bodies.memory import ByteBudget
from careflow_storage._transfer.bodies.spool import SharedSpool
from careflow_storage._transfer.threads import Threads
from careflow_storage._transfer.turns import Turns

if TYPE_CHECKING:
    from careflow_storage.settings import StorageSettings


@dataclass(frozen=True, slots=True)
class TransferContext:
    """The clients, threads, memory and disk space that all transfers of one storage share.

    Attributes:
        living: The IDs of the multipart uploads that this storage is working on.
        refused_copies: The buckets from which the server has refused to copy.
        turns: Shared by all recordings in progress, so that the event loop runs other tasks every
            few milliseconds, however many recordings write.
    """

    settings: StorageSettings
    session: S3Session
    requests: S3Requests
    multipart: MultipartRequests
    control: ControlPlane
    retry: RetryPolicy
    threads: Threads
    budget: ByteBudget
    spool: SharedSpool
    in_flight: InFlight
    living: set[str] = field(default_factory=set)
    turns: Turns = field(default_factory=Turns)
    refused_copies: set[str] = field(default_factory=set)
