"""What every page of ours has in common: who may ask, the headers of each answer, the files, the address.

A question must name the server as 127.0.0.1, localhost, the address that it listens on or a name without dots (a container's); any other
Host is refused by 421. So a site whose name was pointed at this machine (DNS rebinding) reads nothing.

Owns: Assets, Handler, HEADERS, PREFIX, add_headers, address_of, listening, no_strangers.
Never: what a page says.
"""

import hashlib
import os
import re
import socket
from collections.abc import Awaitable, Callable
from importlib.resources import files
from ipaddress import ip_address
from typing import Any, Final

from aiohttp import web

from engine.errors import ConfigurationError

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Server": "dstreams",
}
"""Of every answer, errors too."""
PREFIX: Final = "X-Forwarded-Prefix"
"""Header of a proxy that shows the page below a path of its own: the path, as /units/NAME."""

_TYPES: Final = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
_HOST: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:]+)(?::\d{1,5})?")
"""The header: a name or an address, and a port."""
_PREFIX: Final = re.compile(r"(/[\w.-]+)+")
_BASE: Final = b'<base href="/">'
"""Of every document: what its relative addresses begin with."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def listening(host: str, port: int, setting: str) -> socket.socket:
    """A socket that listens.

    Args:
        host: address to listen on.
        port: of this address; 0 takes a free one.
        setting: what the port is called in a refusal.

    Raises:
        ConfigurationError: the address cannot be opened.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except OSError as cause:
        why = (cause.strerror or str(cause)).partition(" (while")[0]  # the library adds the address
        raise ConfigurationError(
            f"{setting}={port} cannot be opened on {host} ({why}); choose another port"
        ) from cause


def address_of(listener: socket.socket, host: str) -> str:
    """Where a page is, as people type it.

    Args:
        listener: its socket.
        host: that it was told to listen on.
    """
    port = listener.getsockname()[1]
    host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - a name for people, not an address to bind
    return f"http://{host}:{port}/"


def no_strangers(host: str) -> Any:
    """Middleware that answers only who knows the server by a name that no stranger can give it, and others by 421.

    Args:
        host: that the server listens on.
    """

    @web.middleware
    async def refuse(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Host", "")
        if not _is_ours(asked, host):
            raise web.HTTPMisdirectedRequest(
                text=f"421: Host is {asked!r}; ask for localhost, the address or a name without dots\n"
            )
        return await handler(request)

    return refuse


def _is_ours(asked: str, host: str) -> bool:
    """Whether a Host header is a loopback address, the one that is listened on, or a name without dots."""
    match = _HOST.fullmatch(asked)
    if match is None:
        return False
    name = match[1].strip("[]").lower()
    try:
        address = ip_address(name)
    except ValueError:
        return "." not in name or name == host.lower()
    # Who listens on 0.0.0.0 or :: listens on every address of the machine; an address cannot be pointed elsewhere.
    return address.is_loopback or name == host.lower() or host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound


async def add_headers(_: web.Request, response: web.StreamResponse) -> None:
    """Called for every answer, errors too; what changes is never kept by a browser."""
    response.headers.update(HEADERS)
    response.headers.setdefault("Cache-Control", "no-store")


class Assets:
    """The files of packages, read once, and no others.

    Args:
        packages: whose folder `static`, and `static/vendor`, has them; of two with one name the later package's.
    """

    def __init__(self, *packages: str) -> None:
        self._found: dict[str, tuple[bytes, str, str]] = {}
        """By name the content, its type and its tag."""
        for package in packages:
            folder = files(package) / "static"
            for prefix, place in (("", folder), ("vendor/", folder / "vendor")):
                for entry in place.iterdir() if place.is_dir() else ():
                    kind = _TYPES.get(os.path.splitext(entry.name)[1])  # noqa: PTH122 - a name inside a package, not a path
                    if kind is not None and entry.is_file():
                        body = entry.read_bytes()
                        tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
                        self._found[prefix + entry.name] = (body, kind, tag)

    async def file(self, request: web.Request) -> web.Response:
        """A file by the name in the path, or 304 when the browser has it.

        Raises:
            web.HTTPNotFound: it is none of them.
        """
        name = request.match_info["name"]
        if name not in self._found:
            raise web.HTTPNotFound
        body, kind, tag = self._found[name]
        return _answer(request, body, kind, tag)

    def document(self, request: web.Request, name: str) -> web.Response:
        """A document, whose addresses begin where the proxy that asks shows it."""
        body, kind, tag = self._found[name]
        prefix = request.headers.get(PREFIX, "")
        if _PREFIX.fullmatch(prefix):
            body = body.replace(_BASE, f'<base href="{prefix}/">'.encode())
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
        return _answer(request, body, kind, tag)


def _answer(request: web.Request, body: bytes, kind: str, tag: str) -> web.Response:
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    return web.Response(body=body, content_type=kind, charset="utf-8", headers=headers)
