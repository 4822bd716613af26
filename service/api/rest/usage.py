"""Usage and cost: reports, the same as a file, and the ledger's entries."""

from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Annotated, Any, Literal, cast

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator
from pydantic_core import to_json

from service.api.attending import attended
from service.api.body import StrictRoute
from service.api.deps import PathOwner, Services, allow, queried, services
from service.api.errors import responses
from service.api.paging import PageOf, asked, paged
from service.api.rest.completions import Moment, sight
from service.api.rest.schemas.usage import BucketName, GroupName, LedgerEntryOut, UsageReport
from service.api.table import attach
from service.domain.filters import EntryFilter
from service.domain.paging import Ask
from service.usecases.usage import Part, Report, UsageAsk, columns_of

router = APIRouter(tags=["usage"], route_class=StrictRoute, responses=responses(400, 401, 403, 404, 422, 503))

READS = [Depends(allow("read"))]
Use = Annotated[Services, Depends(services)]
Shown = Annotated[int | None, Depends(sight)]
TABLE = (
    "start,end,model,requests,errors,unpriced,input_tokens,cache_read_tokens,cache_write_tokens,output_tokens,"
    "reasoning_tokens,cost_usd\r\n"
    "2026-11-25T00:00:00+00:00,2026-11-26T00:00:00+00:00,gpt-5-mini,12,0,0,4810,0,0,950,0,0.0031025\r\n"
)
CSV: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"example": TABLE}}, "description": "The table."}}


def recent(moment: datetime) -> datetime:
    """The same moment. Raises ValueError for one of which no calendar is to be made."""
    if not 1970 <= moment.year < 2200:
        raise ValueError("not between the years 1970 and 2199")
    return moment


Day = Annotated[Moment, AfterValidator(recent)]


@dataclass(frozen=True)
class Wanted:
    """The query parameters of a report."""

    since: Annotated[Day | None, Query(description="Used then or later. Default: 24 hours, 30 days, 12 weeks or "
                                          "12 months up to `until`.")] = None  # fmt: skip
    until: Annotated[Day | None, Query(description="Used before. Default: the end of the bucket of now.")] = None
    bucket: Annotated[BucketName, Query(description="Calendar units of the time zone; weeks begin on Monday.")] = "day"
    timezone: Annotated[str, Query(max_length=64, description="A name of the IANA database.")] = "UTC"
    group_by: Annotated[tuple[GroupName, ...], Query(max_length=6, description="Repeated for several.")] = ()

    def of(self, user_id: int | None) -> UsageAsk:
        """The same as a question about one user, or about everybody."""
        groups = tuple(dict.fromkeys(self.group_by))
        return UsageAsk(user_id, self.since, self.until, self.bucket, self.timezone, groups)


@dataclass(frozen=True)
class Narrowed:
    """The query parameters that narrow a list of ledger entries."""

    model: Annotated[str | None, Query(max_length=200)] = None
    provider: Annotated[str | None, Query(max_length=64)] = None
    key_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    conversation_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    completion_id: Annotated[int | None, Query(ge=1, le=2**53 - 1)] = None
    kind: Annotated[Literal["charge", "correction"] | None, Query()] = None
    since: Annotated[Moment | None, Query(description="Used then or later.")] = None
    until: Annotated[Moment | None, Query(description="Used before.")] = None
    sort: Annotated[Literal["recent", "oldest"], Query()] = "recent"

    def of(self, user_id: int | None) -> EntryFilter:
        fields = asdict(self)
        return EntryFilter(user_id=user_id, recent=fields.pop("sort") == "recent", **fields)


@router.get("/usage", summary="Report usage and cost", dependencies=READS, response_model_exclude_unset=True)
async def report_usage(
    request: Request, wanted: Annotated[Wanted, Depends(queried(Wanted))], shown: Shown, use: Use
) -> UsageReport:
    """Added up by bucket and group. An admin key sees everybody's, or one user's by `user_id`.

    Buckets are whole hours, days, weeks or months of the time zone, changes of its clocks included; the first and the
    last are cut at `since` and `until`.
    """
    return _answer(await attended(request, use.usage.report(wanted.of(shown))))


@router.get(
    "/users/{user_id}/usage",
    summary="Report a user's usage and cost",
    dependencies=READS,
    response_model_exclude_unset=True,
)
async def report_user_usage(
    request: Request, wanted: Annotated[Wanted, Depends(queried(Wanted))], owner: PathOwner, use: Use
) -> UsageReport:
    """As `/usage`, of that user."""
    return _answer(await attended(request, use.usage.report(wanted.of(owner))))


@router.get(
    "/download/report", summary="Download a usage report", dependencies=READS, response_class=Response, responses=CSV
)
async def download_report(
    request: Request,
    wanted: Annotated[Wanted, Depends(queried(Wanted))],
    shown: Shown,
    use: Use,
    format: Annotated[Literal["csv"], Query(description="How the file is written.")] = "csv",  # noqa: A002  # its name in the query
) -> Response:
    """As `/usage`, a line for each bucket and group, and one for each bucket without any."""
    ask = wanted.of(shown)
    table = attach(use.usage.lines(ask), columns_of(ask), filename=f"usage-by-{ask.bucket}.{format}")
    return await attended(request, table)


def _answer(report: Report) -> UsageReport:
    """As JSON at once: to validate some thousand numbers of our own takes longer than to add them up."""
    told = {one.name: getattr(report, one.name) for one in fields(report) if one.name != "buckets"}
    buckets = b",".join(_part(one) for one in report.buckets)
    body = b'%b,"buckets":[%b]}' % (to_json(told)[:-1], buckets)
    return cast(UsageReport, Response(body, media_type="application/json"))


def _part(part: Part) -> bytes:
    told = to_json({"start": part.start, "end": part.end, **part.sums})
    return b'%b,"groups":%b}' % (told[:-1], part.groups.encode())


@router.get("/usage/entries", summary="List ledger entries", dependencies=READS)
async def list_entries(
    request: Request,
    response: Response,
    narrowed: Annotated[Narrowed, Depends(queried(Narrowed))],
    ask: Annotated[Ask, Depends(asked())],
    shown: Shown,
    use: Use,
) -> PageOf[LedgerEntryOut]:
    """One for each call to a provider, and corrections. An admin key sees everybody's, or one user's by `user_id`."""
    return paged(request, response, await attended(request, use.usage.entries(narrowed.of(shown), ask)))
