"""The copy in Spaces as hop 2 and its verification find it: what its evidence says, and whether that still stands."""

from evidence import UPLOAD_SENTINEL, Evidence, NotEvidence, parse_evidence
from failure import Failure
from settings import Settings
from spaces import Spaces


class SpacesCopy:
    """One model's prefix. `found` is its evidence's document and when that was written."""

    def __init__(self, spaces: Spaces, settings: Settings) -> None:
        self._spaces = spaces
        self._settings = settings

    def read_evidence(self) -> Evidence:
        """Raises Failure("no-evidence"), where what stands there is none; whose it is remains to be asked."""
        where = f"s3://{self._settings.bucket}/{self._settings.prefix}"
        found = self._spaces.read(UPLOAD_SENTINEL)
        if found is None:
            raise Failure(
                "no-evidence", f"{where} has no {UPLOAD_SENTINEL}: the model is not in Spaces, or not completely"
            )
        self.found = found
        try:
            return parse_evidence(found[0])
        except NotEvidence as error:
            raise Failure("no-evidence", f"{UPLOAD_SENTINEL} in {where} proves nothing: {error}") from error

    def demand_same(self) -> None:
        """Whether the objects are to blame, or a run that changes them. Raises Failure("spaces-unsteady")."""
        if self._spaces.read(UPLOAD_SENTINEL) != self.found:
            raise Failure(
                "spaces-unsteady", f"another run changed {self._settings.model} in Spaces while this one read it"
            )
