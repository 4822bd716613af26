"""The shapes of limits."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from service.api.body import NUMBER, Body
from service.domain.meters import to_dollars, to_nano
from service.domain.quotas import Quota

Dollars = Annotated[Decimal, Field(ge=0, le=1_000_000_000, decimal_places=9), NUMBER]
Count = Annotated[int, Field(ge=0, le=2**31 - 1), NUMBER]
RATES = {"requests": "requests_per_minute", "tokens": "tokens_per_minute", "streams": "streams"}


class BudgetsIn(Body):
    """Dollars in UTC's day, week from Monday and month. What is left out stays, null takes a budget away."""

    day: Dollars | None = None
    week: Dollars | None = None
    month: Dollars | None = None


class LimitsIn(Body):
    """What is left out stays, null takes a limit away."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    streams: Count | None = Field(None, description="Turns at once.")


class AllowanceIn(Body):
    """Budgets and limits to be set; what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={"example": {"budgets": {"day": "5"}, "limits": {"requests_per_minute": 60, "streams": None}}}
    )

    budgets: BudgetsIn = BudgetsIn()
    limits: LimitsIn = LimitsIn()

    def allowance(self) -> dict[str, int | None]:
        """The limits to be set, as the database names them."""
        money = {f"{name}_nano": value for name, value in self.budgets.model_dump(exclude_unset=True).items()}
        rates = self.limits.model_dump(exclude_unset=True)
        nanos = {name: None if value is None else to_nano(value) for name, value in money.items()}
        return nanos | {name.replace("_per_minute", "_minute"): value for name, value in rates.items()}


class BudgetOut(BaseModel):
    """Dollars, exactly. `held` is what running turns may still cost; `resets_in` seconds a new period begins."""

    limit: str = Field(examples=["5"])
    used: str = Field(examples=["1.23456789"])
    held: str = Field(examples=["0.002"])
    remaining: str = Field(examples=["3.76343211"])
    resets_in: int = Field(examples=[50400])


class RateOut(BaseModel):
    """`held` is what running turns may still use; in `resets_in` seconds there is more, null where nobody knows."""

    limit: int = Field(examples=[60])
    used: int = Field(examples=[10])
    held: int = Field(examples=[0])
    remaining: int = Field(examples=[50])
    resets_in: int | None = Field(examples=[30])


class BudgetsOut(BaseModel):
    """Null: no such budget."""

    day: BudgetOut | None = None
    week: BudgetOut | None = None
    month: BudgetOut | None = None


class RatesOut(BaseModel):
    """Null: no such limit."""

    requests_per_minute: RateOut | None = None
    tokens_per_minute: RateOut | None = None
    streams: RateOut | None = None


class AllowanceOut(BaseModel):
    """What is limited, and what is used of it now, by the database's clock."""

    budgets: BudgetsOut
    limits: RatesOut


def shown(quotas: Sequence[Quota]) -> AllowanceOut:
    budgets: dict[str, Any] = {one.name: BudgetOut(**_fields(one)) for one in quotas if one.unit == "nano"}
    rates: dict[str, Any] = {RATES[one.name]: RateOut(**_fields(one)) for one in quotas if one.unit != "nano"}
    return AllowanceOut(budgets=BudgetsOut(**budgets), limits=RatesOut(**rates))


def _fields(quota: Quota) -> dict[str, Any]:
    numbers = {"limit": quota.limit, "used": quota.used, "held": quota.held, "remaining": max(quota.left, 0)}
    if quota.unit == "nano":
        return {name: to_dollars(number) for name, number in numbers.items()} | {"resets_in": quota.reset}
    return numbers | {"resets_in": quota.reset}
