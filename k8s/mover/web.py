"""HTTP with bounded waiting: one pool of connections, and every failure as a Failure that names its side."""

import os
import re
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from email.utils import parsedate_to_datetime
from functools import cached_property
from http.client import HTTPConnection as PlainConnection
from http.client import HTTPException
from http.client import HTTPSConnection as TLSConnection
from http.client import IncompleteRead as BrokenBody
from threading import Event
from typing import Any
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    IncompleteRead,
    LocationParseError,
    MaxRetryError,
    ProtocolError,
    ProxyError,
    ReadTimeoutError,
    SSLError,
)
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url
from urllib3.util.wait import wait_for_read

from failure import Failure, Stopped

CONNECT_SECONDS = 10.0
# A part on which no byte moves for this long has failed; it is fetched again on another connection.
STALL_SECONDS = 60.0
# What is read at a time: large enough to be cheap, small enough to stay in the processor's cache for hashing.
CHUNK = 512 * 1024
CONNECTIONS = 40
GATHER_SECONDS = 0.5
# An error's words are in its first bytes; what comes behind them, or takes longer, is not worth the memory or the wait.
WORDS_BYTES = 64 * 1024
DOCUMENT_SECONDS = 600.0
REDIRECT = (301, 302, 303, 307, 308)


class _Patient:
    """Sends under the stall limit: urllib3 leaves the connect timeout in force until the whole body has gone."""

    def request(self: Any, *args: Any, **options: Any) -> None:
        if self.sock is None:
            self.connect()
        self.timeout = STALL_SECONDS
        super().request(*args, **options)  # type: ignore[misc]


class _HTTPConnection(_Patient, HTTPConnection):
    pass


class _HTTPSConnection(_Patient, HTTPSConnection):
    pass


class _HTTPPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _HTTPConnection


class _HTTPSPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _HTTPSConnection


class Web:
    """Sends requests. Proxies (HTTPS_PROXY, NO_PROXY) and a CA bundle come from the environment, as for curl."""

    def __init__(self, stop: Event) -> None:
        self._stop = stop
        options: dict[str, Any] = {
            "num_pools": 16,
            "maxsize": CONNECTIONS,
            "block": False,
            "retries": False,
            "timeout": urllib3.Timeout(connect=CONNECT_SECONDS, read=STALL_SECONDS),
        }
        bundle = ca_bundle()
        if bundle:
            options["ca_certs"] = bundle
        self._direct = urllib3.PoolManager(**options)
        self._proxies = {
            scheme: urllib3.ProxyManager(url, proxy_headers=_login(url), **options) for scheme, url in _proxies()
        }
        for manager in (self._direct, *self._proxies.values()):
            manager.pool_classes_by_scheme = {"http": _HTTPPool, "https": _HTTPSPool}

    def send(self, side: str, method: str, url: str, headers: dict[str, str], body: Any = None) -> BaseHTTPResponse:
        """One request, no redirect followed, no status judged; the body is left to one of the reading methods.

        Raises Failure: tls, connection or stalled; `side` is how messages name the server.
        """
        if self._stop.is_set():
            raise Stopped()
        options = {"preload_content": False, "decode_content": False, "redirect": False}
        with self._judging(side):
            return self._manager(url).request(method, url, headers=headers, body=body, **options)

    def connect(self, url: str, seconds: float) -> PlainConnection | None:
        """A connection to a URL's host that waits so long at most; None where there is a proxy before it, or it cannot be had.

        Why it cannot, send() will find out.
        """
        host = urlsplit(url)
        if self._manager(url) is not self._direct:
            return None
        # With a port: http.client would look for one in an IPv6 address.
        connection = (
            TLSConnection(host.hostname or "", host.port or 443, timeout=seconds, context=self._tls)
            if host.scheme == "https"
            else PlainConnection(host.hostname or "", host.port or 80, timeout=seconds)
        )
        try:
            connection.connect()
        except OSError:
            connection.close()
            return None
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=ca_bundle())

    def _manager(self, url: str) -> urllib3.PoolManager:
        host = urlsplit(url)
        manager = self._proxies.get(host.scheme)
        return self._direct if manager is None or proxy_bypass(host.hostname or "") else manager

    def read_into(self, side: str, response: BaseHTTPResponse, view: memoryview, on_chunk: Any) -> int:
        """Fills `view` from a streamed response, calling on_chunk(piece) for each piece; gives the bytes that came.

        Raises Failure: short-body, stalled or connection; Stopped between two pieces.
        """
        filled = 0
        # urllib3's own readinto makes bytes first and copies them.
        stream = response._fp  # type: ignore[attr-defined]
        with self._judging(side, response):
            while filled < len(view):
                if self._stop.is_set():
                    raise Stopped()
                if len(view) - filled >= 2 * CHUNK:
                    _gather(response)
                count = stream.readinto(view[filled : filled + CHUNK])
                if not count:
                    break
                on_chunk(view[filled : filled + count])
                filled += count
            if filled < len(view):
                response.close()
                return filled
            # Reads to the end, so that the connection can be used again; a longer body is noticed here.
            if stream.read(1):
                raise Failure("wrong-answer", f"{side} sent more bytes than it was asked for")
            response.release_conn()
        return filled

    def read_words(self, side: str, response: BaseHTTPResponse) -> bytes:
        """The words of an error or of a redirect, as far as they are few and come soon. Raises Failure as read_into does."""
        return self._read(side, response, WORDS_BYTES, time.monotonic() + STALL_SECONDS)[0]

    def read_document(self, side: str, response: BaseHTTPResponse, limit: int) -> bytes:
        """A whole body. Raises Failure as read_into does, and where it is larger than `limit` or takes too long."""
        body, whole = self._read(side, response, limit, time.monotonic() + DOCUMENT_SECONDS)
        if len(body) >= limit:
            raise Failure("wrong-answer", f"{side} sent a document of more than {limit} bytes")
        if not whole:
            raise Failure("stalled", f"{side} did not end its answer in {DOCUMENT_SECONDS:.0f} s")
        return body

    def _read(self, side: str, response: BaseHTTPResponse, limit: int, until: float) -> tuple[bytes, bool]:
        """Up to `limit` bytes of a body, and whether that is all; the connection is kept only where it is."""
        body = bytearray()
        with self._judging(side, response):
            while len(body) < limit and time.monotonic() < until:
                if self._stop.is_set():
                    raise Stopped()
                piece = response.read1(min(CHUNK, limit - len(body)))
                if not piece:
                    response.release_conn()
                    return bytes(body), True
                body += piece
            response.close()
        return bytes(body), False

    @contextmanager
    def _judging(self, side: str, response: BaseHTTPResponse | None = None) -> Iterator[None]:
        """Has every error of the network told as a Failure; a connection on which anything went wrong is not used again."""
        try:
            yield
        except BaseException as error:
            if response is not None:
                response.close()
            if isinstance(error, (HTTPError, HTTPException, OSError)):
                raise self._failure(side, error) from error
            raise

    def _failure(self, side: str, error: Exception) -> Failure:
        reason = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        if isinstance(reason, ProxyError):
            return Failure("connection", f"the proxy on the way to {side} does not answer: {_words(reason)}")
        if isinstance(reason, (SSLError, ssl.SSLError)):
            return tls_failure(side, _words(reason))
        if isinstance(reason, ConnectTimeoutError):
            return Failure("connection", f"{side} did not accept a connection within {CONNECT_SECONDS:.0f} s")
        if isinstance(reason, ProtocolError):
            # What urllib3 wraps so is raised while a body is sent or read.
            reason = next((part for part in reason.args if isinstance(part, (TimeoutError, IncompleteRead))), reason)
        if isinstance(reason, (ReadTimeoutError, TimeoutError)):
            return Failure("stalled", f"{side} moved no byte for {STALL_SECONDS:.0f} s")
        if isinstance(reason, BrokenBody):
            return Failure("short-body", f"{side} closed the connection in the middle of a body")
        return Failure("connection", f"the connection to {side} failed: {_words(reason)}")


def _gather(response: BaseHTTPResponse) -> None:
    """Waits a moment for a whole chunk: on a slow link each packet would wake the thread. What has come by then is read as ever."""
    connection = response.connection
    sock = connection and connection.sock
    if not isinstance(sock, socket.socket):
        return
    with suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, CHUNK)
        wait_for_read(sock, GATHER_SECONDS)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)


def _proxies() -> Iterator[tuple[str, str]]:
    """Scheme and the proxy for it. Raises Failure("bad-settings"), which does not show the login that may be in it."""
    for scheme, address in getproxies().items():
        if scheme in ("http", "https"):
            url = address if "://" in address else f"http://{address}"
            if not _is_proxy(url):
                raise Failure(
                    "bad-settings",
                    f"{scheme.upper()}_PROXY is no http or https URL of a host and a port",
                    next="correct it; in a login, / is written as %2F, # as %23, ? as %3F and @ as %40",
                )
            yield scheme, url


def _is_proxy(url: str) -> bool:
    """Whether there is nothing behind the host: what is may be a password with a character that ends it."""
    try:
        parts = urlsplit(url)
        parse_url(url)
        host = parts.hostname and (parts.port is None or parts.port > 0)
    except (ValueError, LocationParseError):
        return False
    more = parts.path.strip("/") or parts.query or parts.fragment
    return bool(host and not more and parts.scheme in ("http", "https"))


def _login(proxy: str) -> dict[str, str]:
    """The header for a proxy with `user:password@` in its URL."""
    parts = urlsplit(proxy)
    if parts.username is None:
        return {}
    return urllib3.make_headers(proxy_basic_auth=f"{unquote(parts.username)}:{unquote(parts.password or '')}")


def tls_failure(side: str, words: str) -> Failure:
    """A certificate that does not verify never will; all else that can break a handshake may heal."""
    if "CERTIFICATE_VERIFY_FAILED" in words or "Hostname mismatch" in words or "doesn't match" in words:
        return Failure("tls", f"the certificate of {side} does not verify: {words}")
    return Failure("connection", f"the TLS connection to {side} broke: {words}")


def ca_bundle() -> str | None:
    """The CA bundle that the usual variables name, or None for the system's. Raises Failure("bad-settings")."""
    for name in ("SSL_CERT_FILE", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        path = os.environ.get(name)
        if path:
            try:
                ssl.create_default_context(cafile=path)
            except (OSError, ssl.SSLError) as error:
                raise Failure("bad-settings", f"{name} names no CA bundle: {path} ({error.strerror})") from error
            return path
    return None


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds the server asks us to wait: Retry-After (seconds or a date), or the Hub's `ratelimit: "api";r=0;t=N`."""
    headers = urllib3.HTTPHeaderDict(headers)
    value = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", value):
        return float(value)
    if value:
        try:
            return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
        except (ValueError, OverflowError):
            return None
    match = re.search(r"\br=0\b[^,]*\bt=(\d+)", headers.get("RateLimit", ""))
    return float(match[1]) if match else None


def _words(error: BaseException) -> str:
    """The innermost reason, without urllib3's object addresses."""
    text = str(error).rsplit(": ", 1)[-1] if "object at 0x" in str(error) else str(error)
    # The query of a signed link is a secret of its own.
    text = re.sub(r"\?\S+", "?...", text)
    return text.strip("'\") ") or type(error).__name__
