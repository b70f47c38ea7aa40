"""The HuggingFace Hub: resolve a revision, list a commit, read ranges of its files.

The token goes to the Hub's own origin only: the CDN behind its redirect refuses a request that carries one, and a
redirect is nobody's reason to hand a secret to another host.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

from urllib3.exceptions import LocationParseError
from urllib3.response import BaseHTTPResponse
from urllib3.util import parse_url

from evidence import DOCUMENT_BYTES
from failure import Failure
from retry import retry
from settings import Settings
from volley import Request
from web import REDIRECT, Web, retry_after

SIDE = "the Hub"
REDIRECTS = 5
# From here on the Hub's list of names beside a commit may be cut short: huggingface_hub does not trust it either.
NAMES_LIMIT = 50_000
# Bounds a list's memory.
MOST_ENTRIES = 300_000
# Its sizes and hashes are those of the bytes as they are.
_IDENTITY = {"Accept-Encoding": "identity"}


@dataclass(frozen=True)
class HubFile:
    """A file as the Hub publishes it: `sha256` for LFS/Xet files, the git `blob` id for all."""

    path: str
    size: int
    sha256: str | None
    blob: str


class Hub:
    """One model at the Hub. Every method retries what is transient and raises Failure for the rest."""

    def __init__(self, settings: Settings, web: Web, stop: threading.Event) -> None:
        self._model = settings.model
        self._endpoint = settings.hf_endpoint
        self._token = settings.secrets.hf_token
        self._web = web
        self._stop = stop
        self._links: dict[str, str] = {}

    def resolve(self, revision: str) -> str:
        """The commit (40 hex) that a branch, tag or commit stands for now."""

        def ask() -> str:
            commit = self._info(revision).get("sha")
            if not isinstance(commit, str) or not re.fullmatch(r"[0-9a-f]{40}", commit):
                raise Failure("wrong-answer", f"the Hub named no commit for revision {revision!r} of {self._model}")
            return commit

        try:
            return retry(ask, self._stop)
        except Failure as failure:
            if failure.cause != "no-revision":
                raise
            raise Failure("no-revision", f"{self._model} has no revision {revision!r} on the Hub") from failure

    def files(self, commit: str) -> list[HubFile]:
        """All files of a commit, checked against the repository's own list of names, so that a page that is lost is noticed.

        Their paths are as the Hub gives them: check_paths before any of them comes near a file system.
        """

        def ask() -> list[HubFile]:
            files = self._tree(commit)
            self._compare_names(commit, {file.path for file in files})
            return sorted(files, key=lambda file: file.path)

        return retry(ask, self._stop)

    def probe(self, commit: str, file: HubFile) -> None:
        """Asks for access to one file: a gated repository's listing is open, so a listing proves nothing."""

        def ask() -> None:
            # A link to the CDN is the access that was asked for.
            _, response = self._follow(self._resolve_url(commit, file), {}, file.path, method="HEAD", away=False)
            if response is not None:
                self._web.read_words(SIDE, response)
                if response.status not in (200, 206):
                    raise self._refusal(response, f"{file.path} of {self._model}")

        retry(ask, self._stop)

    def fetch(
        self, commit: str, file: HubFile, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        """Fills `view` with the file's bytes from `start`; one try, as the caller owns the retry. Raises Failure."""
        try:
            self._fetch(commit, file, start, view, on_chunk)
        except Failure as failure:
            failure.tell(file.path)
            raise

    def connect(self, seconds: float) -> HTTPConnection | None:
        """A connection for whole() and follow(); see Web.connect."""
        return self._web.connect(self._endpoint, seconds)

    def whole(self, commit: str, file: HubFile) -> Request:
        """The request for all bytes of a file (at least one)."""
        url = self._resolve_url(commit, file)
        return Request("GET", urlsplit(url).path, self._headers(url, _IDENTITY), file.size)

    def follow(self, request: Request, location: str) -> Request | None:
        """What a redirect asks for; None where it leads away from the Hub, or nowhere, of which fetch() can tell."""
        asked = urljoin(self._endpoint, request.target)
        try:
            url = self._redirect_target(asked, location)
        except Failure:
            return None
        # urllib3 encodes what may not stand in a request, as it does for fetch().
        return replace(request, target=parse_url(url).request_uri) if self._is_own(url) else None

    def _fetch(
        self, commit: str, file: HubFile, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]
    ) -> None:
        whole = start == 0 and len(view) == file.size
        headers = dict(_IDENTITY)
        if not whole:
            headers["Range"] = f"bytes={start}-{start + len(view) - 1}"
        response = self._open(commit, file, headers)
        try:
            self._check_answer(response, file, start, len(view), whole)
        except Failure:
            response.close()
            raise
        count = self._web.read_into(SIDE, response, view, on_chunk)
        if count < len(view):
            raise Failure("short-body", f"the Hub sent {count} of {len(view)} bytes of {file.path}")

    def _tree(self, commit: str) -> list[HubFile]:
        url: str | None = f"{self._api('tree', commit)}?recursive=true&expand=false"
        files: list[HubFile] = []
        seen: set[str] = set()
        entries = 0
        while url is not None:
            if url in seen:
                raise Failure("wrong-answer", f"the Hub's list of {self._model} leads back to a page that was read")
            seen.add(url)
            count, page, url = retry(lambda url=url: self._page(url), self._stop)  # type: ignore[misc]
            files += page
            entries += count
            if entries > MOST_ENTRIES:
                words = f"{self._model} has more than {MOST_ENTRIES} files and folders"
                raise Failure("hostile-listing", words, next="stage a repository with fewer files")
        return files

    def _page(self, url: str) -> tuple[int, list[HubFile], str | None]:
        """The number of a page's entries, the files among them, and the next page's address."""
        page, following = self._json(url)
        try:
            files = [_hub_file(entry) for entry in page if entry["type"] != "directory"]
        except (KeyError, TypeError, ValueError) as error:
            raise Failure("wrong-answer", f"the Hub's list of {self._model} cannot be read: {error!r}") from error
        if not page and following:
            raise Failure("wrong-answer", f"the Hub's list of {self._model} has an empty page that is not its last")
        return len(page), files, following

    def _open(self, commit: str, file: HubFile, headers: dict[str, str]) -> BaseHTTPResponse:
        """A streamed answer for the file. Its signed link is kept for the next part, and asked for anew when it has expired."""
        link = self._links.get(file.path)
        if link is not None:
            response = self._get(link, headers)
            if response.status in (200, 206):
                return response
            response.close()
            self._links.pop(file.path, None)
            if response.status not in (*REDIRECT, 401, 403, 404, 410):
                raise self._refusal(response, file.path)
        url, response = self._follow(self._resolve_url(commit, file), headers, file.path)
        if response.status in (200, 206):
            if not self._is_own(url):
                self._links[file.path] = url
            return response
        self._web.read_words(SIDE, response)
        if self._is_own(url):
            raise self._refusal(response, f"{file.path} of {self._model}")
        words = f"the Hub's storage answered {response.status} for {file.path}"
        raise Failure("hub-error", words, retry_after=retry_after(response.headers))

    def _check_answer(self, response: BaseHTTPResponse, file: HubFile, start: int, length: int, whole: bool) -> None:
        if response.status == 206:
            wanted = f"bytes {start}-{start + length - 1}/{file.size}"
            got = response.headers.get("Content-Range", "")
            if got != wanted:
                raise Failure("wrong-answer", f"the Hub answered {got!r} for {file.path}, {wanted!r} was asked for")
        elif not whole:
            raise Failure("wrong-answer", f"the Hub sent all of {file.path} when a range of it was asked for")
        announced = response.headers.get("Content-Length")
        if announced is not None and announced != str(length):
            raise Failure("short-body", f"the Hub announced {announced} bytes of {file.path}, {length} were asked for")

    def _compare_names(self, commit: str, names: set[str]) -> None:
        """Demands that the tree lacks no name that the commit's own list has. Raises Failure("wrong-answer")."""
        siblings = retry(lambda: self._info(commit), self._stop).get("siblings")
        # The Hub and its mirrors always give it: what does not is something else.
        if not isinstance(siblings, list):
            raise Failure("wrong-answer", f"the Hub gave no list of names for {self._model} at {commit[:8]}")
        listed = {str(entry.get("rfilename") if isinstance(entry, dict) else entry) for entry in siblings}
        differing = listed - names
        if 0 < len(siblings) < NAMES_LIMIT:
            differing |= names - listed
        if differing:
            raise Failure("wrong-answer", f"the Hub's two lists of {self._model} differ, first in {min(differing)!r}")

    def _info(self, revision: str) -> dict[str, Any]:
        info, _ = self._json(self._api("revision", revision))
        return info if isinstance(info, dict) else {}

    def _api(self, kind: str, revision: str) -> str:
        return f"{self._endpoint}/api/models/{self._model}/{kind}/{quote(revision, safe='')}"

    def _resolve_url(self, commit: str, file: HubFile) -> str:
        return f"{self._endpoint}/{self._model}/resolve/{commit}/{quote(file.path)}"

    def _json(self, url: str) -> tuple[Any, str | None]:
        """The document behind an API address, and the address of its next page."""
        url, response = self._follow(url, {"Accept": "application/json"}, self._model)
        if response.status != 200:
            self._web.read_words(SIDE, response)
            raise self._refusal(response, self._model)
        body = self._web.read_document(SIDE, response, DOCUMENT_BYTES)
        match = re.search(r'<([^>]+)>;\s*rel="?next"?', response.headers.get("Link", ""))
        try:
            return json.loads(body), self._redirect_target(url, match[1]) if match else None
        except (ValueError, RecursionError) as error:
            raise Failure("hub-error", f"the Hub's answer for {self._model} is no JSON") from error

    def _follow(
        self, url: str, headers: dict[str, str], what: str, *, method: str = "GET", away: bool = True
    ) -> tuple[str, Any]:
        """The answer at the end of the redirects, and its address; None where that is another host and not to be asked."""
        for _ in range(REDIRECTS):
            response = self._get(url, headers, method)
            if response.status not in REDIRECT:
                return url, response
            self._web.read_words(SIDE, response)
            url = self._redirect_target(url, response.headers.get("Location", ""))
            if not away and not self._is_own(url):
                return url, None
        raise Failure("wrong-answer", f"the Hub redirected {what} more than {REDIRECTS} times")

    def _get(self, url: str, headers: dict[str, str], method: str = "GET") -> BaseHTTPResponse:
        return self._web.send(SIDE, method, url, self._headers(url, headers))

    def _headers(self, url: str, more: Mapping[str, str]) -> dict[str, str]:
        headers = {"User-Agent": "model-storage-pipeline", **more}
        if self._token and self._is_own(url):
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _is_own(self, url: str) -> bool:
        own, other = urlsplit(self._endpoint), urlsplit(url)
        return (own.scheme, own.netloc) == (other.scheme, other.netloc)

    def _redirect_target(self, url: str, location: str) -> str:
        try:
            target = urljoin(url, location)
            parse_url(target)
            scheme = urlsplit(target).scheme
        except (ValueError, LocationParseError) as error:
            raise Failure("wrong-answer", "the Hub redirected to what is no address") from error
        if not location or scheme not in ("http", "https") or (scheme == "http" and urlsplit(url).scheme == "https"):
            # The query of a signed link is a secret of its own.
            raise Failure("wrong-answer", f"the Hub redirected to {target.partition('?')[0]!r}, which is not followed")
        return target

    def _refusal(self, response: BaseHTTPResponse, what: str) -> Failure:
        status, code = response.status, response.headers.get("X-Error-Code", "")
        message = response.headers.get("X-Error-Message", "")
        if status in (408, 429) or status >= 500:
            cause = "hub-busy" if status == 429 else "hub-error"
            return Failure(cause, f"the Hub answered {status} for {what}", retry_after=retry_after(response.headers))
        if code == "GatedRepo":
            who = "Secret hf-token has no access to it" if self._token else "there is no token in Secret hf-token"
            page = f"{self._endpoint}/{self._model}"
            return Failure(
                "gated",
                f"{self._model} is gated and {who}",
                next=f"ask for access at {page}, or put a token that has access into Secret hf-token (key HF_TOKEN), "
                "then run the same command again",
            )
        if message == "Access to this resource is disabled.":
            return Failure("hub-denied", f"the Hub has disabled {self._model}", next="stage another model")
        if status == 401 and (self._token and (code != "RepoNotFound" or "nvalid" in message)):
            return Failure("bad-token", "the Hub does not accept the token in Secret hf-token")
        if code == "RevisionNotFound":
            return Failure("no-revision", f"{self._model} has no such revision")
        if code == "EntryNotFound":
            return Failure("wrong-answer", f"the Hub lists {what} and answers that it is not there")
        if code == "RepoNotFound" or status in (401, 404):
            token = (
                "the token in Secret hf-token may not see it" if self._token else "it is private and there is no token"
            )
            return Failure("no-model", f"the Hub has no model {self._model}, or {token}")
        if status == 403 and self._token:
            return Failure("hub-denied", f"the Hub refuses {what} to the token in Secret hf-token")
        if status == 403:
            words = f"the Hub refuses {what} without a token"
            return Failure("hub-denied", words, next="put one with read access into Secret hf-token, key HF_TOKEN")
        return Failure("wrong-answer", f"the Hub answered {status} for {what}")


def _hub_file(entry: dict[str, Any]) -> HubFile:
    lfs = entry.get("lfs")
    size, sha256 = (lfs["size"], str(lfs["oid"])) if lfs else (entry["size"], None)
    if type(size) is not int or size < 0 or (sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", sha256)):
        raise ValueError(f"the entry of {entry['path']!r}")
    if not isinstance(entry["path"], str):
        raise TypeError(f"the name {entry['path']!r}")
    return HubFile(entry["path"], size, sha256, str(entry["oid"]))
