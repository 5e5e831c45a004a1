"""Who may talk to the app: requests that name it by a host it is known under, from its own pages.

A page of another site can reach a server on this machine by giving its own name this machine's
address (DNS rebinding), or from another local port. Its requests then carry a foreign Host or a
foreign Origin; both are refused, for HTTP and WebSocket alike, before Streamlit sees them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

OWN = ("localhost", "127.0.0.1", "::1")
"""Names of the loopback address; `STREAMLIT_SERVER_ALLOWED_HOSTS` names others instead."""

FRAMES = (
    (b"content-security-policy", b"frame-ancestors 'self'"),
    (b"x-frame-options", b"SAMEORIGIN"),
)

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Asgi = Callable[[Message, Receive, Send], Awaitable[None]]


def refusal(headers: Iterable[tuple[bytes, bytes]], allowed: Sequence[str]) -> str:
    """Why a request is refused, in a few words; empty when it is not.

    headers: names in lower case, as ASGI gives them. One Host, of an allowed name; an Origin, where
    there is one, of that very host and port. A proxy that speaks https for a name of its own passes
    on both without a port; under the names of `OWN` such an Origin is another server's.
    """
    headers = list(headers)
    hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
    origins = [value.decode("latin-1") for name, value in headers if name == b"origin"]
    if len(hosts) != 1 or _name(hosts[0]) not in allowed:
        return "unknown host"
    host = hosts[0].lower()
    own = [f"http://{host}"]
    if ":" in host.rpartition("]")[2] or _name(host) not in OWN:
        own.append(f"https://{host}")
    return "" if all(origin.lower() in own for origin in origins) else "foreign origin"


class OwnHostsOnly:
    """ASGI middleware around the app: 403 for every request that `refusal` refuses, and no page of
    another site may show the app in a frame, where a click meant for that page would be the app's.
    """

    def __init__(self, app: Asgi) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        reason = ""
        if scope["type"] in ("http", "websocket"):
            reason = refusal(scope["headers"], _allowed())
        if not reason:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        else:
            body = f"{reason}: this app answers to {', '.join(_allowed())}\n".encode()
            kind = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": body})


def _unframed(send: Send) -> Send:
    """`send`, whose answers may stand in frames of the app's own pages alone."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *FRAMES]
        await send(message)

    return sent


def _allowed() -> Sequence[str]:
    from streamlit import config

    named: list[str] = config.get_option("server.allowedHosts")
    return [name.strip().lower() for name in named] or OWN


def _name(host: str) -> str:
    """The name in a Host header, without its port; empty for what is no plain host and port."""
    try:
        parts = urlsplit(f"//{host}")
        plain = parts.netloc == host and parts.username is None and parts.port != 0
        return (parts.hostname or "").rstrip(".") if plain else ""
    except ValueError:
        return ""
