"""Checking of a plug-in's parameters, as users write them, against its pydantic model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pci_bench.errors import UserError
from pci_bench.system.arguments import MAX_COUNT

if TYPE_CHECKING:
    import pydantic


def validated_params(name: str, model: type[pydantic.BaseModel], values: Mapping[str, Any]) -> pydantic.BaseModel:
    """Return the parameters of the plug-in of some name, defaults filled in.

    Raises
    ------
    UserError
        Naming the parameter, what was given and what is expected.

    Examples
    --------
    >>> import pydantic
    >>> validated_params("mine", pydantic.create_model("Params", k=(int, 3)), {"k": 5})
    Params(k=5)
    """
    import pydantic

    try:
        params = model(**values)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            known = f"Its parameters are {', '.join(model.model_fields)}." if model.model_fields else "It has none."
            raise UserError(f"{name} has no parameter '{where}'. {known}") from error
        raise UserError(f"{where} = {first['input']!r} does not fit {name}: {first['msg'].lower()}.") from error
    for parameter, value in params:
        if isinstance(value, int | float) and not abs(value) <= MAX_COUNT:  # NaN is not
            raise UserError(
                f"{parameter} = {value!r} does not fit {name}: a finite number of at most {MAX_COUNT:,} is expected."
            )
    return params
