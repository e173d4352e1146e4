"""What became of each edit and each probe: the rows behind a scorecard."""

from typing import Literal

from mlflow_edit.core.edit import FrozenModel

ProbeMetric = Literal[
    "reliability", "generality", "locality", "portability", "retention", "test_retention"
]


class Fired(FrozenModel):
    """Which edit answered: its id and batch, and its L2 distance against its deferral radius.

    `match` is the probability that the user asks what the edit asks, where the scope has one.
    """

    edit_id: str
    batch: str
    distance: float
    radius: float
    match: float | None = None


class ProbeResult(FrozenModel):
    """One prompt, what the base and the edited model answered, and whether that is as it should be.

    `edit_id` is the edit that the probe belongs to (None for the question set). For locality `ok`
    means unchanged; elsewhere it means that the answer begins with one of `expected`.
    """

    metric: ProbeMetric
    edit_id: str | None = None
    prompt: str
    expected: tuple[str, ...] = ()
    before: str
    after: str
    ok: bool
    fired: Fired | None = None
    teacher_forced: float | None = None
    kl: float | None = None


class EditResult(FrozenModel):
    """One edit as `--json` prints it: asked, wanted, answered before and after."""

    id: str
    prompt: str
    target: str
    before: str
    after: str
    ok: bool


class EntryView(FrozenModel):
    """One entry of a codebook, drawn: its place in a plane, its radii, its nearest neighbour.

    `x` and `y` are the first two principal components of the keys; distances and radii are in L2
    units of the key space. In the `encoder` scope a radius says what is looked at, not what
    answers, and is not drawn; `nearest_match` is the probability that the entry's prompt asks what
    the nearest other edit asks, `nearest_said` says it in words.
    """

    edit_id: str
    batch: str
    prompt: str
    target: str
    x: float
    y: float
    radius: float
    effective_radius: float
    scope: Literal["hidden", "encoder"] = "hidden"
    nearest_edit: str | None = None
    nearest_distance: float | None = None
    nearest_match: float | None = None
    nearest_said: str = ""


class NearConflict(FrozenModel):
    """Two entries of a scope that meet and want different answers, by their places in the list.

    `kind` is that of a conflict of a merge, `said` what it means; `distance` is in L2 units of the
    key space.
    """

    kind: Literal["contradiction", "steal", "shadow"]
    ours: int
    theirs: int
    distance: float
    said: str


class ScopeView(FrozenModel):
    """The entries of one key space: all of the new ones, and some of the others around them.

    `n_entries` counts all that are in force, `n_conflicts` all that were found; `conflicts` begins
    with those that weigh most.
    """

    space: str
    n_entries: int
    entries: tuple[EntryView, ...]
    conflicts: tuple[NearConflict, ...] = ()
    n_conflicts: int = 0


class ChangeView(FrozenModel):
    """What a delta adds to one weight, by Frobenius norms; None where nobody can tell.

    `rank` is that of a product of factors, `n_elements` the count of a sparse change; `base_norm`
    is the norm of the base model's weight.
    """

    tensor: str
    form: str
    rank: int | None = None
    n_elements: int | None = None
    norm: float | None = None
    base_norm: float | None = None
    bytes: int

    @property
    def share(self) -> float | None:
        """The norm of what is added, relative to the weight it is added to."""
        return self.norm / self.base_norm if self.norm is not None and self.base_norm else None


class DeltaView(FrozenModel):
    """A delta batch in force; `contextual` says why it acts on other weights than those it was
    learned on.

    Changes are in the order of the model's own parameters.
    """

    batch: str
    editor: str
    n_edits: int
    changes: tuple[ChangeView, ...]
    contextual: str | None = None


class DeltaMeeting(FrozenModel):
    """A weight that two delta batches change, and how far they meet there, in [0, 1]."""

    ours: str
    theirs: str
    tensor: str
    measure: float


class WeightsView(FrozenModel):
    """The deltas of a version, and where they meet, most first; `n_meetings` counts all.

    Of `n_pairs` pairs of batches `n_compared` were compared.
    """

    deltas: tuple[DeltaView, ...] = ()
    meetings: tuple[DeltaMeeting, ...] = ()
    n_meetings: int = 0
    n_pairs: int = 0
    n_compared: int = 0


class Provenance(FrozenModel):
    """Where the edits came from: the file, its commit, its author, and changes since (`dirty`)."""

    path: str | None = None
    commit: str | None = None
    author: str | None = None
    committed_at: str | None = None
    summary: str | None = None
    dirty: bool | None = None
    repository: str | None = None


class Unsolved(FrozenModel):
    """An edit that was not learned, and how far it came (mean loss in nats, steps taken)."""

    edit_id: str
    prompt: str
    target: str
    loss: float
    steps: int
