"""Settings, read from the environment (prefix EVERTURN_) in main.py and cli.py only."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict


def either(name: str) -> AliasChoices:
    """EVERTURN_NAME, or the name that the provider's own tools read."""
    return AliasChoices(f"EVERTURN_{name}", name)


class ModelSettings(BaseModel):
    """A model that the administrator declares, or a price of their own for a known one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str = Field(min_length=1, max_length=200)
    provider: str
    upstream: str | None = None
    max_tokens: int | None = Field(None, ge=1)
    max_output_tokens: int | None = Field(None, ge=1)
    input_price: Decimal | None = Field(None, ge=0, description="dollars per million tokens")
    output_price: Decimal | None = Field(None, ge=0)
    cache_read_price: Decimal | None = Field(None, ge=0)
    cache_write_price: Decimal | None = Field(None, ge=0)
    tools: bool | None = None
    images: bool | None = None
    reasoning: bool | None = None
    fallbacks: tuple[str, ...] = Field((), max_length=5)

    @model_validator(mode="after")
    def _falls_back_to_others(self) -> Self:
        names = (self.id, *self.fallbacks)
        if len(set(names)) < len(names):
            raise ValueError("a model's fallbacks are other models, each named once")
        return self


class ProviderSettings(BaseModel):
    """A further provider: any server that speaks OpenAI's or Anthropic's wire."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")
    wire: Literal["openai", "anthropic"] = "openai"
    base_url: str
    api_key: SecretStr = SecretStr("none")


class Settings(BaseSettings):
    """Everything that can be set. docs/settings.md is compared with this class by a test."""

    model_config = SettingsConfigDict(env_prefix="EVERTURN_", extra="ignore", env_ignore_empty=True, frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="Worker processes of `everturn serve`.")
    data_dir: Path = Field(Path("data"), description="Where the embedded database and its pepper live.")
    database_url: str | None = Field(
        None, description="`postgresql://…` or `sqlite:///…`. Empty: SQLite in the data directory."
    )
    database_pool: int = Field(10, ge=2, le=200, description="Most connections of one worker to Postgres.")
    sqlite_synchronous: Literal["normal", "full"] = Field(
        "full", description="`full` survives a power cut; `normal` is faster and survives a crash of the process."
    )
    pepper: SecretStr | None = Field(
        None, description="Secret mixed into key hashes, at least 32 characters. Needed with Postgres."
    )
    openai_api_key: SecretStr | None = Field(None, validation_alias=either("OPENAI_API_KEY"), description="OpenAI.")
    openai_base_url: str | None = Field(
        None, validation_alias=either("OPENAI_BASE_URL"), description="Another address for the provider `openai`."
    )
    anthropic_api_key: SecretStr | None = Field(
        None, validation_alias=either("ANTHROPIC_API_KEY"), description="Anthropic."
    )
    anthropic_base_url: str | None = Field(
        None, validation_alias=either("ANTHROPIC_BASE_URL"), description="Another address for `anthropic`."
    )
    openrouter_api_key: SecretStr | None = Field(
        None, validation_alias=either("OPENROUTER_API_KEY"), description="OpenRouter."
    )
    litellm_base_url: str | None = Field(
        None, validation_alias=either("LITELLM_BASE_URL"), description="Address of a LiteLLM proxy."
    )
    litellm_api_key: SecretStr | None = Field(
        None, validation_alias=either("LITELLM_API_KEY"), description="Key for the LiteLLM proxy."
    )
    providers: tuple[ProviderSettings, ...] = Field(
        (), description="More providers, a JSON list of {name, wire, base_url, api_key}."
    )
    models: tuple[ModelSettings, ...] = Field(
        (),
        description="Models or own prices, a JSON list of {id, provider, max_tokens, …_price, images, fallbacks, …}.",
    )
    default_model: str | None = Field(None, description="Model for requests that name none. Empty: the first one.")
    title_model: str | None = Field(
        None, description="Model that names conversations after their first answer. Empty: their first question does."
    )
    local_model: Literal["auto", "on", "off"] = Field(
        "auto", description="The model on this machine. `auto`: when no other provider is configured."
    )
    provider_connections: int = Field(256, ge=1, le=4096, description="Most connections to one provider.")
    connect_timeout: float = Field(10, gt=0, description="Seconds to connect to a provider.")
    first_byte_timeout: float = Field(60, gt=0, description="Seconds until a stream's first byte.")
    idle_timeout: float = Field(60, gt=0, description="Seconds between two chunks of a stream.")
    total_timeout: float = Field(600, gt=0, description="Seconds for one call to a provider.")
    retries: int = Field(2, ge=0, le=10, description="How often a model is asked again that fails before its answer.")
    breaker_failures: int = Field(
        5, ge=0, le=1000, description="Failures in a row after which a provider is left alone for a while; 0: never."
    )
    breaker_seconds: float = Field(10, gt=0, le=600, description="For how long at first; up to eight times that.")
    report_timeout: float = Field(10, gt=0, le=3600, description="Seconds that one usage report may take.")
    max_body_bytes: int = Field(2_000_000, ge=1_000, description="Largest request body.")
    max_import_bytes: int = Field(2_000_000_000, ge=1_000, description="Largest import, packed and unpacked.")
    files_dir: Path | None = Field(None, description="Where files are kept. Empty: `files` in the data directory.")
    max_file_bytes: int = Field(100_000_000, ge=1_000, description="Largest file.")
    user_file_bytes: int = Field(1_000_000_000, ge=0, description="Bytes that the files of one user may take.")
    user_files: int = Field(10_000, ge=0, le=1_000_000, description="Files that one user may have.")
    spare_disk_bytes: int = Field(100_000_000, ge=0, description="What files leave free on their disk.")
    lease_seconds: int = Field(30, ge=3, le=600, description="How long a worker's hold on a turn lasts unrenewed.")
    drain_seconds: int = Field(20, ge=0, le=600, description="Grace for running turns at shutdown.")
    journal_hours: float = Field(
        24, ge=0, le=100_000, description="Hours after a turn's end until its journal is folded; 0: it stays as it is."
    )
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field((), description="Browser origins let in, by commas.")
    metrics: Literal["open", "admin", "off"] = Field("open", description="Who may read `/metrics`.")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least level logged.")
    log_format: Literal["text", "json"] = Field("text", description="Log lines for people or for machines.")

    @field_validator("cors_origins", mode="before")
    @classmethod
    def split(cls, value: object) -> object:
        """`a, b` from the environment as a tuple."""
        return tuple(one.strip() for one in value.split(",") if one.strip()) if isinstance(value, str) else value
