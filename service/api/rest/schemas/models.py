"""The shapes of models."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.api.body import NUMBER, Body, Spelled
from service.domain.meters import Prices

# Words between slashes, as providers name their models; nothing that a path or a query would read otherwise.
ID = r"^[A-Za-z0-9][A-Za-z0-9._:@+~-]*(/[A-Za-z0-9][A-Za-z0-9._:@+~-]*)*$"

ID_WORDS = "Letters, digits and . _ : @ + ~ - are taken, in words between slashes that begin with a letter or a digit"
ModelId = Annotated[str, Field(min_length=1, max_length=200), Spelled(ID, ID_WORDS)]
ModelName = Annotated[str, Field(min_length=1, max_length=200)]
ProviderName = Annotated[str, Field(min_length=1, max_length=64)]
PRINTABLE = Spelled(r"^[^\s\x00-\x1f\x7f]+$", "Only printable characters are taken, and no spaces")
Upstream = Annotated[str, Field(min_length=1, max_length=200), PRINTABLE]
Tokens = Annotated[int, Field(ge=1, le=1_000_000_000), NUMBER]
# Nano-dollars are the least that the ledger counts.
Price = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=9), NUMBER]


class PricesIn(Body):
    """Dollars per million tokens, as numbers or exact decimals. A cache price left out is the input price."""

    input: Price
    output: Price
    cache_read: Price | None = None
    cache_write: Price | None = None

    def prices(self) -> Prices:
        return Prices(self.input, self.output, self.cache_read, self.cache_write)


class ModelChanges(Body):
    """What is named is changed; null takes back what was said here, so that others are heard again."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"prices": {"input": "0.25", "output": "2"}, "disabled": False}}
    )

    provider: ProviderName | None = Field(None, description="one that is configured")
    upstream: Upstream | None = Field(None, description="the provider's own name of the model")
    max_tokens: Tokens | None = Field(None, description="the context that the model takes, in tokens")
    max_output_tokens: Tokens | None = None
    prices: PricesIn | None = None
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    fallbacks: Annotated[list[ModelName], Field(max_length=5)] | None = Field(
        None, description="the models to ask where this one does not answer, in this order"
    )

    def values(self) -> dict[str, object]:
        """The fields that were sent."""
        found = {name: getattr(self, name) for name in self.model_fields_set}
        return found | ({"prices": self.prices and self.prices.prices()} if "prices" in found else {})


class ModelIn(ModelChanges):
    """A model to register. Without an `upstream` the provider calls it by this id, less `<provider>/` before it."""

    model_config = ConfigDict(
        json_schema_extra={
            "example": {
                "id": "team/fast",
                "provider": "openai",
                "upstream": "gpt-5-mini",
                "max_tokens": 400000,
                "prices": {"input": "0.25", "output": "2", "cache_read": "0.025"},
            }
        }
    )

    id: ModelId
    provider: ProviderName = Field(description="one that is configured")


class ModelPatch(ModelChanges):
    """Changes of a model, wherever it is known from."""

    disabled: bool = Field(False, description="whether it is switched off: unknown to everybody who asks it")


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
                "max_output_tokens": 4096,
                "prices": {"input": "0", "output": "0", "cache_read": None, "cache_write": None},
                "streaming": True,
                "tools": False,
                "images": False,
                "reasoning": False,
                "fallbacks": [],
                "source": "local",
                "disabled": False,
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
    fallbacks: list[str] = Field(description="the models that are asked where this one does not answer")
    source: str = Field(description="who named it: `database`, `settings`, `genai-prices`, `discovered` or `local`")
    disabled: bool


class ModelConfig(ModelOut):
    """What a request to this model will use."""

    upstream: str = Field(description="the provider's own name of the model")
    price_source: str | None = Field(description="`database`, `settings` or `local`; null where prices are published")
    price_version: str | None = Field(description="names these prices in ledger entries")
    refused_parameters: list[str]
    defaults: dict[str, float | int]
