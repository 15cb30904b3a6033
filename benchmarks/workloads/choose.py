"""From the name of a workload to the code, for a client that can do it."""

from __future__ import annotations

from benchmarks.clients.protocol import (
    Lists,
    ListsFolders,
    Lives,
    Objects,
    Serves,
    Signs,
    Streams,
    Transfers,
)
from benchmarks.model import Job
from benchmarks.workloads.base import Workload
from benchmarks.workloads.listing import Listing
from benchmarks.workloads.live import Live
from benchmarks.workloads.presign import Presign
from benchmarks.workloads.serve import Serve
from benchmarks.workloads.small import Small
from benchmarks.workloads.soak import Soak
from benchmarks.workloads.transfers import Download, Stream, Upload
from benchmarks.workloads.web import AppClient, Web


def make_workload(job: Job, client: object) -> Workload:
    """The workload that the job names. Raises ValueError where the client takes no part."""
    workload = _of_transfers(job, client) or _of_objects(job, client)
    if workload is None:
        raise ValueError(f"{job.client} takes no part in {job.workload}")
    return workload


def _of_transfers(job: Job, client: object) -> Workload | None:
    if job.workload == "upload" and isinstance(client, Transfers):
        return Upload(job, client)
    if job.workload == "download" and isinstance(client, Transfers):
        return Download(job, client)
    if job.workload == "stream" and isinstance(client, Streams):
        return Stream(job, client)
    if job.workload == "web" and isinstance(client, AppClient):
        return Web(job, client)
    if job.workload == "serve" and isinstance(client, Serves):
        return Serve(job, client)
    if job.workload == "live" and isinstance(client, Lives):
        return Live(job, client)
    return None


def _of_objects(job: Job, client: object) -> Workload | None:
    if job.workload == "small" and isinstance(client, Objects):
        return Small(job, client)
    if job.workload == "soak" and isinstance(client, Objects):
        return Soak(job, client)
    if job.workload == "listing" and isinstance(client, Lists):
        return Listing(job, client, client if isinstance(client, ListsFolders) else None)
    if job.workload == "presign" and isinstance(client, Signs):
        return Presign(job, client)
    return None
