"""A part of a study or site file, as a pydantic model."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from peft_ablation.errors import near_miss

Share = Annotated[float, Field(gt=0, lt=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class Section(BaseModel):
    """A part of the config: unknown keys are refused by name, values never change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _keys_are_known(cls, value: Any) -> Any:
        # pydantic's own message does not say what is allowed.
        if isinstance(value, dict):
            allowed = sorted(cls.model_fields)
            for key in value:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key",
                        "{key}: unknown key, allowed here: {allowed}{near}",
                        {
                            "key": str(key),
                            "allowed": ", ".join(allowed),
                            "near": near_miss(str(key), allowed),
                        },
                    )
        return value
