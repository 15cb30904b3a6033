"""Makes the models of a page, a thousand at once, from values that are proven already.

Validating them takes as long as reading the page, and finds nothing: the readers of pages give
every field, and each as exactly the type that it has. A model is four slots, and here they are
filled slot by slot, so that the loops run in C. Nobody can tell such a model from a validated one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import repeat
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from careflow_storage.models import Model

AnyModel = TypeVar("AnyModel", bound=Model)

_SLOTS: Final = (
    "__dict__",
    "__pydantic_fields_set__",
    "__pydantic_extra__",
    "__pydantic_private__",
)
# A pydantic to come may keep more, or other things, in a model: then it must do this itself.
_PYDANTIC_IS_KNOWN: Final = sorted(BaseModel.__slots__) == sorted(_SLOTS)


def make_models(model: type[AnyModel], values: list[dict[str, Any]]) -> list[AnyModel]:
    """Make one model of each of the ``values``; 1000 take 0.4 ms.

    Each has all fields of the model, in their order, with values that validation would neither
    refuse nor change. It becomes a part of the model, so nobody else may keep it. Models with
    private attributes or validators of their own are none for this.
    """
    if not _PYDANTIC_IS_KNOWN:
        return [model.model_validate(each) for each in values]
    models = list(map(object.__new__, repeat(model, len(values))))
    names = set(model.model_fields)
    _fill("__dict__", models, values)
    # Each model has a set of its own: who changes one changes no other.
    _fill("__pydantic_fields_set__", models, map(set.copy, repeat(names)))
    _fill("__pydantic_extra__", models, repeat(None))
    _fill("__pydantic_private__", models, repeat(None))
    return models


def _fill(slot: str, models: list[AnyModel], values: Iterable[object]) -> None:
    # The descriptor itself: a frozen model refuses setattr.
    fill: Callable[[AnyModel, object], None] = vars(BaseModel)[slot].__set__
    deque(map(fill, models, values), maxlen=0)
