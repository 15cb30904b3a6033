"""b2sdk's own simulator of B2's native API as an account, for tests about application keys."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from b2sdk.v3 import B2Api, B2HttpApiConfig, InMemoryAccountInfo, RawSimulator

from careflow_storage.keys import ApplicationKeys, b2_api

BUCKET = "careflow-recordings-test"


class SimulatedAccount:
    """An account with one bucket; every sign-in from here on reaches it."""

    def __init__(self) -> None:
        self.simulator: Any = RawSimulator()
        self.account_id, self.master_key = self.simulator.create_account()
        api = self.new_api()
        api.authorize_account(self.account_id, self.master_key)
        self.bucket_id = api.create_bucket(BUCKET, "allPrivate").id_

    def new_api(self) -> Any:
        config = B2HttpApiConfig(_raw_api_class=lambda _: self.simulator)
        return B2Api(InMemoryAccountInfo(), api_config=config)

    def keys(self) -> ApplicationKeys:
        return ApplicationKeys(self.account_id, self.master_key)

    @property
    def names(self) -> list[str]:
        return [key.name for key in self.simulator.all_application_keys]

    @property
    def ids(self) -> list[str]:
        return [key.application_key_id for key in self.simulator.all_application_keys]


@contextmanager
def simulated_account() -> Iterator[SimulatedAccount]:
    account = SimulatedAccount()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(b2_api, "new_api", account.new_api)
        yield account
