"""The console's HTTP side: routes, errors by name, and what every answer carries. The only use of starlette."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from twin_service.console.access import Access, Need
from twin_service.console.budget import Budget
from twin_service.console.event_stream import Broadcast, EventStream, event_of
from twin_service.console.feed import TaskFeed
from twin_service.console.request_errors import RequestError, RequestErrorCode, request_error_of
from twin_service.console.snapshot import Selection
from twin_service.console.snapshots import Snapshots
from twin_service.console.what_if import Changes, what_if
from twin_service.documents import Desired
from twin_service.exchange import Exchange
from twinsplit.errors import RuleError, TwinsplitError
from twinsplit.telemetry.logs import EventLog

PAGE = Path(__file__).parent / "page"
MOST_BODY_BYTES = 4096
SNAPSHOT_AGE_S = 0.25
"""A snapshot that is asked for alone may be so old."""
_MOST_OFFSET = 1_000_000
_MOST_DIGITS = 20
"""Of a task's number."""
_WEIGHTS = ("alpha_s", "beta_s_per_joule", "deadline_s")
_KEYS = ", ".join(("version", *_WEIGHTS))

SECURITY_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}

_log = EventLog("twin.console")
_REPEATED_LINE_S = 10.0


class Api:
    """What can be asked for under ``/api``."""

    def __init__(
        self, exchange: Exchange, feed: TaskFeed, snapshots: Snapshots, broadcast: Broadcast, budget: Budget
    ) -> None:
        self._exchange = exchange
        self._core = exchange.core
        self._feed = feed
        self._snapshots = snapshots
        self._broadcast = broadcast
        self._budget = budget

    async def snapshot(self, request: Request) -> Response:
        """All twins, or one."""
        data = await self._snapshots.built(_selection(request), max_age_s=SNAPSHOT_AGE_S)
        return Response(data, media_type="application/json")

    async def events(self, request: Request) -> Any:
        """The same again and again, after what backlogs were lately."""
        selection = _selection(request)
        self._broadcast.check_room()
        first = await self._snapshots.built(selection, max_age_s=SNAPSHOT_AGE_S)
        if request.method == "HEAD":
            return Response(media_type="text/event-stream")
        past = await self._snapshots.backlogs(max_age_s=SNAPSHOT_AGE_S)
        return EventStream(self._broadcast, selection, event_of(past, b"backlogs") + event_of(first))

    async def what_if(self, request: Request) -> Response:
        """How the plan of a device would change."""
        changes = Changes.parse(_query(request))
        with self._budget.spent():
            found = what_if(self._core, request.path_params["device_id"], changes, self._exchange.now_s())
        return JSONResponse(found)

    async def weights(self, request: Request) -> Response:
        """Write what is desired of a device."""
        device_id = request.path_params["device_id"]
        version, desired = _desired(await _body(request))
        version = self._core.desire(device_id, desired, version)
        self._exchange.desired()
        _log.info("weights-desired", device=device_id, version=version, desired=desired.by_field())
        return JSONResponse({"version": version})

    async def thumbnail(self, request: Request) -> Response:
        """Picture of a task's frame."""
        text = request.path_params["task_id"]
        task_id = int(text) if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS else -1
        data = self._feed.thumbnail(request.path_params["device_id"], task_id)
        if data is None:
            raise RequestError(RequestErrorCode.NOT_FOUND, "no thumbnail of that task is kept")
        return Response(data, media_type="image/jpeg")


def console_app(api: Api, access: Access, page: Path = PAGE) -> Starlette:
    """Everything that the console serves."""

    async def index(_request: Request) -> Response:
        return FileResponse(page / "index.html")

    routes = [
        Route("/", index),
        Mount("/static", StaticFiles(directory=page, check_dir=False)),
        Route("/api/snapshot", api.snapshot),
        Route("/api/events", api.events),
        Route("/api/devices/{device_id}/what-if", api.what_if),
        Route("/api/devices/{device_id}/weights", api.weights, methods=["POST"]),
        Route("/api/tasks/{device_id}/{task_id}/thumbnail", api.thumbnail),
    ]
    app = Starlette(
        routes=routes,
        middleware=[Middleware(Guard, access=access)],
        exception_handlers={HTTPException: lambda request, error: _answer(_refusal(error, request.scope))},
    )
    app.router.redirect_slashes = False
    return app


class Guard:
    """Lets in who may come in, turns errors into answers by name, and gives every answer its headers."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        has_started = False

        async def send_guarded(message: Message) -> None:
            nonlocal has_started
            if message["type"] == "http.response.start":
                has_started = True
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers["cache-control"] = "no-store" if scope["path"].startswith("/api/") else "no-cache"
            await send(message)

        try:
            self._check(scope)
            await self._app(scope, receive, send_guarded)
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this request only
            refusal = _refusal(error, scope)
            if not has_started:
                await _answer(refusal)(scope, receive, send_guarded)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            need = Need.CHANGE
        else:
            need = Need.READ if scope["path"].startswith("/api/") else Need.PAGE
        self._access.check(
            need,
            host=headers.get("host"),
            authorization=headers.get("authorization"),
            fetch_site=headers.get("sec-fetch-site"),
        )


def _refusal(error: Exception, scope: Scope) -> RequestError:
    if isinstance(error, RequestError):
        return error
    if isinstance(error, HTTPException):
        if error.status_code == 405:
            return RequestError(RequestErrorCode.METHOD_NOT_ALLOWED, f"{scope['method']} is not possible here")
        if error.status_code == 404:
            return RequestError(RequestErrorCode.NOT_FOUND, "there is nothing here; docs/console.md says what there is")
        return RequestError(RequestErrorCode.BAD_REQUEST, "this request cannot be understood")
    if isinstance(error, TwinsplitError) and (refusal := request_error_of(error)) is not None:
        if isinstance(error, RuleError):
            _log.warning("rule-failed", limit_s=_REPEATED_LINE_S, cause=str(error))
        return refusal
    _log.exception("request-failed", error, path=scope["path"][:200])
    return RequestError(RequestErrorCode.INTERNAL, "the twin service's log says what went wrong")


def _answer(refusal: RequestError) -> Response:
    body = {"error": {"code": refusal.code.text, "text": str(refusal)}}
    headers = {}
    if refusal.code is RequestErrorCode.TOKEN_MISSING:
        headers["www-authenticate"] = "Bearer"
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after_s)))
    return JSONResponse(body, refusal.code.status, headers)


def _query(request: Request) -> dict[str, str]:
    pairs = request.query_params.multi_items()
    if len({name for name, _ in pairs}) < len(pairs):
        raise RequestError(RequestErrorCode.BAD_REQUEST, "a query value is given twice; give each once")
    return dict(pairs)


def _selection(request: Request) -> Selection:
    query = _query(request)
    device_id, offset = query.pop("device", None), query.pop("offset", "0")
    if query:
        raise RequestError(
            RequestErrorCode.BAD_REQUEST, f"{min(query)[:63]!r} is not asked for here; there are device and offset"
        )
    if not offset.isascii() or not offset.isdigit() or len(offset) > 7 or int(offset) > _MOST_OFFSET:
        raise RequestError(
            RequestErrorCode.BAD_REQUEST,
            f"offset: {offset[:63]!r} does not fit; give a whole number from 0 to {_MOST_OFFSET}",
        )
    return Selection(device_id, int(offset))


async def _body(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise RequestError(RequestErrorCode.BAD_REQUEST, "send JSON, with Content-Type: application/json")
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MOST_BODY_BYTES:
            raise RequestError(RequestErrorCode.OVERSIZE, f"the body has more than {MOST_BODY_BYTES} bytes")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise RequestError(RequestErrorCode.BAD_REQUEST, "the body is not JSON") from None


def _desired(body: Any) -> tuple[int, Desired]:
    """Version and weights of a write.

    Raises:
        RequestError: something is missing, unknown or of another type. Impossible numbers are the document's to refuse.
    """
    if not isinstance(body, dict):
        raise RequestError(RequestErrorCode.BAD_REQUEST, "the body must be an object with version and weights")
    unknown = next((name for name in body if name not in ("version", *_WEIGHTS)), None)
    if unknown is not None:
        raise RequestError(RequestErrorCode.BAD_REQUEST, f"{unknown[:63]!r} is unknown; there are {_KEYS}")
    version = body.pop("version", None)
    if not isinstance(version, int) or isinstance(version, bool):
        raise RequestError(RequestErrorCode.BAD_REQUEST, "version: the number of the document's version is needed")
    if not body:
        raise RequestError(RequestErrorCode.BAD_REQUEST, f"no weight is given; there are {', '.join(_WEIGHTS)}")
    for name, value in body.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise RequestError(RequestErrorCode.BAD_REQUEST, f"{name}: a number is needed")
    return version, Desired(**{name: _as_float(name, value) for name, value in body.items()})


def _as_float(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise RequestError(RequestErrorCode.BAD_REQUEST, f"{name}: is too large") from None
