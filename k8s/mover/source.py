"""Where hop 2 gets its bytes from: the objects in Spaces as they were listed, and what follows where they are not the files."""

from collections import Counter
from collections.abc import Callable
from http.client import HTTPConnection

from evidence import File
from failure import Failure
from ledger import Ledger
from refusal import UNREADABLE
from spaces import Listing, Spaces
from spaces_copy import SpacesCopy
from volley import Request


class Source:
    """One run's. `unreadable` are the paths of the objects that Spaces would not hand out, at least once."""

    def __init__(self, spaces: Spaces, copy: SpacesCopy, listing: Listing, model: str) -> None:
        self._spaces = spaces
        self._copy = copy
        self._listing = listing
        self._model = model
        self.unreadable: set[str] = set()
        self._refused: Counter[str] = Counter()

    def connect(self, seconds: float) -> HTTPConnection | None:
        """A connection for what ask() gives; see Web.connect."""
        return self._spaces.connect(seconds)

    def ask(self, file: File) -> Request:
        """The request for all bytes of a file."""
        return self._spaces.whole(file.path, self._listing.objects[file.path])

    def fetch(self, file: File, start: int, view: memoryview, on_chunk: Callable[[memoryview], None]) -> None:
        """Fills `view` with the file's bytes from `start`; see Spaces.fetch."""
        try:
            self._spaces.fetch(file.path, self._listing.objects[file.path], start, view, on_chunk)
        except Failure as failure:
            if failure.cause in UNREADABLE:
                self.unreadable.add(file.path)
            raise

    def refuse(self, file: File, words: str) -> None:
        """Counts that other bytes than the file's came, all of them; where they come again, Spaces is to blame.

        Raises Failure("wrong-bytes").
        """
        self._refused[file.path] += 1
        if self._refused[file.path] > 1:
            self._copy.demand_same()
            mend = self.leave_word({file.path})
            raise Failure("wrong-bytes", f"Spaces holds other bytes than its evidence lists: {words}", next=mend)

    def changed(self, file: File) -> Failure:
        """What it means for the run that an object is no longer the one that was listed."""
        return Failure("spaces-unsteady", f"{file.path} in Spaces was replaced or removed while it was read")

    def leave_word(self, paths: set[str]) -> str:
        """Tells hop 1, which would otherwise trust its evidence, and gives the way out in words."""
        try:
            Ledger(self._spaces, self._model).write_suspects(paths)
        except Failure as failure:
            print(f"could not leave word for the upload: {failure.detail}", flush=True)
            return "run make model-to-spaces with --repair for this model: it reads every object back"
        return "run make model-to-spaces for this model: it reads the object back and moves it again"
