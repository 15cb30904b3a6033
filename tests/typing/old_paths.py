"""A program with imports from where names were before: they have their types there, too."""

from __future__ import annotations

from typing import assert_type

from careflow_storage import BackblazeStorage, admin, doctor, keys, migrate, usage
from careflow_storage.admin import (
    AWS_S3,
    Alert,
    ApplicationKeys,
    CreatedKey,
    Diagnosis,
    Finding,
    KeyInfo,
    OldCodeReport,
    Prices,
    RotationResult,
    Thresholds,
    UsageReport,
    check_old_code,
    check_thresholds,
    diagnose,
    estimate,
    load_prices,
    translate_environment,
    watch,
)
from careflow_storage.admin.doctor import Diagnosis as DiagnosisBefore
from careflow_storage.admin.keys import ApplicationKeys as KeysBefore
from careflow_storage.admin.migrate import OldCodeReport as ReportBefore
from careflow_storage.admin.usage import Prices as PricesBefore
from careflow_storage.recordings import detect_content_type


async def main(storage: BackblazeStorage, thresholds: Thresholds) -> None:
    assert_type(storage.admin.keys, ApplicationKeys)
    before: KeysBefore = storage.admin.keys
    created: CreatedKey = await before.create("app", ["readFiles"])
    listed: list[KeyInfo] = await storage.admin.keys.list()
    report: UsageReport = await storage.admin.usage()
    alerts: list[Alert] = check_thresholds(report, thresholds)
    prices: Prices = AWS_S3
    prices_before: PricesBefore = prices
    print(created, listed, alerts, prices_before, RotationResult, Finding)
    print(diagnose, estimate, load_prices, translate_environment, watch, check_old_code)
    diagnosis: type[DiagnosisBefore] = Diagnosis
    code: type[ReportBefore] = OldCodeReport
    print(diagnosis, code, detect_content_type("a.wav", b"RIFF"))
    print(admin.KeyInfo is keys.KeyInfo, admin.Carried is migrate.Carried)
    print(admin.Stored is usage.Stored, admin.diagnose is doctor.diagnose)
