"""One model's objects in Spaces: read, written, removed, listed, and fetched in parts."""

import hashlib
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

from botocore.exceptions import ClientError

from bucket import NOTHING, SIDE, Bucket, server_time, with_members
from evidence import DOCUMENT_BYTES, UPLOAD_SENTINEL
from failure import Failure
from multipart_uploads import MultipartUploads
from refusal import Gone
from retry import retry
from settings import Settings
from volley import Request
from web import Web


@dataclass(frozen=True)
class Stored:
    """An object as listed: bytes, ETag without quotes, and when the server took it in."""

    size: int
    etag: str
    modified: datetime


@dataclass(frozen=True)
class Listing:
    """The objects under the prefix, by key, and the server's clock at the end of the listing."""

    objects: dict[str, Stored]
    at: datetime


class Spaces:
    """One model's prefix in one bucket; keys are relative to it. Methods retry what is transient and raise Failure for the rest."""

    def __init__(self, settings: Settings, web: Web, stop: threading.Event) -> None:
        self._endpoint = settings.endpoint
        self._web = web
        self._stop = stop
        self._bucket = Bucket(settings, web, stop)
        self.uploads = MultipartUploads(self._bucket, stop)

    def read(self, key: str) -> tuple[bytes, datetime] | None:
        """A document's bytes and time, or None when the server says that it is not there; no bytes where it can be none."""

        def get() -> tuple[bytes, datetime] | None:
            try:
                answer = self._bucket.client.get_object(**self._bucket.key_options(key))
                with_members(answer, key, "ETag", "LastModified")
                # Its length need not be announced: then what comes is counted.
                announced, etag = answer.get("ContentLength", 0), answer["ETag"].strip('"')
                body = answer["Body"].read(DOCUMENT_BYTES + 1) if announced <= DOCUMENT_BYTES else b""
                if max(announced, len(body)) > DOCUMENT_BYTES:
                    answer["Body"].close()
                    return b"", answer["LastModified"]
                # With KMS keys an ETag is no hash; one request's is an MD5 in all other cases.
                if "ServerSideEncryption" not in answer and len(etag) == 32 and _md5(body) != etag:
                    raise Failure("short-body", f"Spaces sent other bytes of {key} than it took in")
                return body, answer["LastModified"]
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") == "NoSuchKey":
                    return None
                raise

        return self._bucket.control(get, key)

    def put(self, key: str, body: memoryview | bytes, sha256: str | None = None) -> str:
        """Writes an object in one request under its SHA-256; gives its ETag."""
        digest = sha256 or hashlib.sha256(body).hexdigest()

        def send() -> str:
            return self._bucket.store(key, "", body, digest)

        return retry(send, self._stop)

    def delete(self, key: str) -> None:
        """Removes one object; one that is not there is fine."""

        def remove() -> None:
            answer = self._bucket.client.delete_object(**self._bucket.key_options(key))
            if answer["ResponseMetadata"]["HTTPStatusCode"] != 204:
                raise Failure("spaces-error", f"Spaces did not confirm that {key} is removed")

        self._bucket.control(remove, key)

    def listing(self) -> Listing:
        """Every object under the model's prefix.

        Pages by the last key until a page comes back empty: Spaces has been seen to say "not truncated" too early
        with ListObjectsV2. Raises Failure("wrong-answer") when the server does not move on.
        """
        objects: dict[str, Stored] = {}

        def fetch(marker: str) -> dict[str, Any]:
            return self._bucket.client.list_objects(**self._bucket.prefix_options(), Marker=marker)

        for page in self._bucket.pages(fetch, "", self._bucket.prefix, "Contents", "Key"):
            for entry in page.get("Contents", []):
                with_members(entry, self._bucket.prefix, "Size", "ETag", "LastModified")
                objects[entry["Key"][len(self._bucket.prefix) :]] = Stored(
                    entry["Size"], entry["ETag"].strip('"'), entry["LastModified"]
                )
        return Listing(objects, server_time(page))

    def clock(self) -> datetime:
        """The server's clock, in whole seconds, for the price of a list of one object."""
        options = {**self._bucket.prefix_options(), "MaxKeys": 1}
        answer = self._bucket.control(lambda: self._bucket.client.list_objects(**options), self._bucket.prefix)
        return server_time(answer)

    def fetch(
        self, key: str, stored: Stored, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        """Fills `view` with an object's bytes from `start`; one try, as the caller owns the retry.

        Raises Failure, or Gone when it is no longer the object that was listed (If-Match on its ETag).
        """
        try:
            self._fetch(key, stored, start, view, on_chunk)
        except Failure as failure:
            failure.tell(key)
            if failure.cause == "spaces-error":
                self._demand_service(failure)
            raise

    def connect(self, seconds: float) -> HTTPConnection | None:
        """A connection for requests that were signed; see Web.connect."""
        return self._web.connect(self._endpoint, seconds)

    def whole(self, key: str, stored: Stored) -> Request:
        """The request for all bytes of an object (at least one), if it still is the one that was listed."""
        url, headers = self._bucket.sign("GET", key, "", NOTHING, _same(stored))
        return Request("GET", urlsplit(url).path, headers, stored.size)

    def storing(self, key: str, body: memoryview | bytes, sha256: str) -> Request:
        """The request that writes an object under its SHA-256; the answer has its ETag."""
        url, headers = self._bucket.sign("PUT", key, "", sha256, {})
        headers["Content-Length"] = str(len(body))
        return Request("PUT", urlsplit(url).path, headers, None, body)

    def _demand_service(self, failure: Failure) -> None:
        """Raises Failure("spaces-busy") where Spaces reads no other object either, and so says nothing of this one."""
        try:
            # Where there is none, Spaces has looked for it.
            with suppress(Gone):
                self._bucket.send("GET", UPLOAD_SENTINEL, "", None, NOTHING).close()
        except Failure as other:
            raise Failure("spaces-busy", failure.detail, retry_after=failure.retry_after) from other

    def _fetch(
        self, key: str, stored: Stored, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        size, end = stored.size, start + len(view) - 1
        headers = _same(stored)
        whole = start == 0 and len(view) == size
        if not whole:
            headers["Range"] = f"bytes={start}-{end}"
        response = self._bucket.send("GET", key, "", None, NOTHING, headers)
        wanted = f"bytes {start}-{end}/{size}"
        got = response.headers.get("Content-Range", wanted if whole else "")
        announced = response.headers.get("Content-Length", str(len(view)))
        if got != wanted or announced != str(len(view)):
            response.close()
            # The object is not what its evidence says: no retry of the part can mend that.
            raise Failure(
                "wrong-answer",
                f"Spaces answered {got or 'the whole object'!r}, {announced} bytes, for {key}; {wanted!r} was asked for",
            )
        count = self._web.read_into(SIDE, response, view, on_chunk)
        if count < len(view):
            raise Failure("short-body", f"Spaces sent {count} of {len(view)} bytes of {key}")


def _same(stored: Stored) -> dict[str, str]:
    """Headers that ask for the bytes of just this object."""
    return {"If-Match": f'"{stored.etag}"', "Accept-Encoding": "identity"}


def _md5(body: bytes) -> str:
    return hashlib.md5(body, usedforsecurity=False).hexdigest()
