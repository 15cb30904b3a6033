"""The doctor: finds out why it does not work, and says what to do."""

from __future__ import annotations

from careflow_storage.admin.doctor.diagnosis import diagnose
from careflow_storage.admin.doctor.model import Diagnosis, Finding, Group, Verdict

__all__ = ["Diagnosis", "Finding", "Group", "Verdict", "diagnose"]
