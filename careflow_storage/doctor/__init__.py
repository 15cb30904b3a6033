"""The doctor: finds out why it does not work, and says what to do."""

from __future__ import annotations

from careflow_storage.doctor.models import Diagnosis, Finding, Group, Verdict
from careflow_storage.doctor.runner import diagnose

__all__ = ["Diagnosis", "Finding", "Group", "Verdict", "diagnose"]
