"""The doctor: find out why the storage does not work, and what to do about it."""

from __future__ import annotations

from careflow_storage.doctor.models import Diagnosis, Finding, Group, Verdict
from careflow_storage.doctor.runner import diagnose

__all__ = ["Diagnosis", "Finding", "Group", "Verdict", "diagnose"]
