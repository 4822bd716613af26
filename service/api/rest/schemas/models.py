"""The shapes of models."""

from pydantic import BaseModel, ConfigDict, Field


class PricesOut(BaseModel):
    """Dollars per million tokens, as exact decimals."""

    input: str
    output: str
    cache_read: str | None
    cache_write: str | None


class ModelOut(BaseModel):
    """A model that can be asked. null: nobody has said."""

    model_config = ConfigDict(
        from_attributes=True,
        json_schema_extra={
            "example": {
                "id": "smollm2-135m-instruct",
                "name": "smollm2-135m-instruct",
                "provider": "local",
                "max_tokens": 4096,
                "max_output_tokens": None,
                "prices": {"input": "0", "output": "0", "cache_read": None, "cache_write": None},
                "streaming": True,
                "tools": None,
                "images": None,
                "reasoning": None,
                "source": "local",
            }
        },
    )

    id: str
    name: str
    provider: str
    max_tokens: int | None = Field(description="the context that the model takes, in tokens")
    max_output_tokens: int | None
    prices: PricesOut | None
    streaming: bool | None
    tools: bool | None
    images: bool | None
    reasoning: bool | None
    source: str


class ModelConfig(ModelOut):
    """What a request to this model will use."""

    upstream: str = Field(description="the provider's own name of the model")
    refused_parameters: list[str]
    defaults: dict[str, float | int]
