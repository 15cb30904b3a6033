"""What the methods of `StorageAdmin` share: the context of a call, and loading off the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING

from careflow_storage._method_call import MethodCall
from careflow_storage._runtime import Runtime
from careflow_storage._transfer.context import TransferContext
from careflow_storage.settings import StorageSettings

if TYPE_CHECKING:
    from types import ModuleType


class AdminMethods:
    """The base of the classes that hold the methods of `StorageAdmin`, one class per subject.

    The modules of these classes define no models, so the event loop can import them. Models and
    rarely used code are in modules of their own, which a call imports in a thread.
    """

    def __init__(self, settings: StorageSettings, runtime: Runtime) -> None:
        self._settings = settings
        self._runtime = runtime

    def _context(self) -> TransferContext:
        return self._runtime.context()

    def _call(
        self,
        method: str,
        needs: tuple[ModuleType, ...] = (),
        key: str | None = None,
        timeout: float | None = None,
    ) -> MethodCall:
        """Return the context of one call; entering it imports the modules it ``needs``."""
        bucket = self._settings.bucket_name
        return _LoadingCall(needs, self._runtime, method, bucket, key, timeout)


class _LoadingCall(MethodCall):
    """A call that imports modules first, in a thread."""

    __slots__ = ("_needs", "_runtime")

    def __init__(
        self,
        needs: tuple[ModuleType, ...],
        runtime: Runtime,
        method: str,
        bucket: str | None,
        key: str | None,
        timeout: float | None,
    ) -> None:
        super().__init__(method, bucket, key, timeout, runtime.in_flight, runtime.observer)
        self._needs = needs
        self._runtime = runtime

    async def __aenter__(self) -> None:
        await super().__aenter__()
        if not self._needs:
            return
        try:
            threads = self._runtime.context().threads
            for module in self._needs:
                await threads.load(module.__name__)
        except BaseException as error:
            await self.__aexit__(type(error), error, error.__traceback__)
            raise
