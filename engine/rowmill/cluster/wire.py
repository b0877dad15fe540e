"""What driver and agents say to each other, beside the messages of supervisor and workers, which pass as they are.

A round is a list of these, as one MessagePack value. A worker is named by its incarnation, a shard by its number.
"""

import msgspec

from rowmill.core.rows import InputFile, InputPart
from rowmill.ipc.messages import ClaimsAsk


class _Item(msgspec.Struct, frozen=True, tag=True):
    pass


class Begin(_Item, frozen=True):
    """To the agent: start a worker process."""

    worker: int
    module: str
    name: str


class Tell(_Item, frozen=True):
    """To the agent: give the worker this message of the supervisor's."""

    worker: int
    message: bytes


class Piece(_Item, frozen=True):
    """To the agent: bytes of the input, to lie at this offset of a file of its own.

    shard: whose file it is, which goes with the shard; None: one of the whole part, which stays.
    """

    part: int
    shard: int | None
    offset: int
    data: bytes


class Read(_Item, frozen=True):
    """To the agent: the node is to read this of a part itself, before the shard is assigned, which comes next.

    ranges: start, end and CRC-32 of bytes; none: the file is looked at whether it still is the driver's.
    """

    shard: int
    part: int
    ranges: list[tuple[int, int, int]]


class Past(_Item, frozen=True):
    """To the agent: what the shard's checkpoint has from this offset on. The shard is assigned next."""

    shard: int
    data: bytes
    start: int = 0


class Arrived(_Item, frozen=True):
    """To the agent: a group is on the driver's disk, or why not."""

    worker: int
    shard: int
    end: int
    problem: str | None = None


class Kill(_Item, frozen=True):
    """To the agent: end this worker at once."""

    worker: int


class Started(_Item, frozen=True):
    """To the driver: the worker has this process id."""

    worker: int
    pid: int


class Passed(_Item, frozen=True):
    """To the driver: a message of the worker's to the supervisor."""

    worker: int
    message: bytes


class Unable(_Item, frozen=True):
    """To the driver: the worker cannot go on, and no other one on this node could; as the message `Stop` has it."""

    worker: int
    exit_code: int
    reason: str


class Idle(_Item, frozen=True):
    """To the driver: the worker has nothing to do until the shard comes that it was said to want."""

    worker: int


class Group(_Item, frozen=True):
    """To the driver: bytes of a shard's checkpoint. What lies behind their start is replaced by them."""

    worker: int
    shard: int
    start: int
    data: bytes


class Claimed(_Item, frozen=True):
    """To the driver: what the worker asks of the claims of the run. The answer is a message to it."""

    worker: int
    ask: ClaimsAsk


class Whole(_Item, frozen=True):
    """To the driver: bytes of a sealed shard, from this offset on. last: it ends with them."""

    shard: int
    data: bytes
    start: int = 0
    last: bool = True


class Board(_Item, frozen=True):
    """To the driver: the worker's board as it is now."""

    worker: int
    data: bytes


class Taken(_Item, frozen=True):
    """To the driver: what the worker takes of its machine."""

    worker: int
    rss: int
    cpu_s: float
    stopped: bool


class Ended(_Item, frozen=True):
    """To the driver: the worker process has ended."""

    worker: int
    exitcode: int | None  # None: it could not be started


class Lacking(_Item, frozen=True):
    """To the driver: the node cannot read the part of the shard that was assigned by this message. It waits for it.

    every: nor any other part that lies on other machines.
    """

    worker: int
    message: bytes
    why: str
    every: bool


class Forsaken(_Item, frozen=True):
    """To the driver, last: the node has lost its raylet. No worker is left, and nothing is sent from it any more."""


class Told(_Item, frozen=True):
    """To the driver: lines for the log."""

    lines: list[str]


class NodeState(_Item, frozen=True):
    """To the driver: how the node is."""

    notices: list[str]
    cpu_s: float  # of the agent
    rss_max: int  # bytes of the agent


Down = Begin | Tell | Piece | Read | Past | Arrived | Kill
Up = (
    Started
    | Passed
    | Unable
    | Idle
    | Group
    | Claimed
    | Whole
    | Board
    | Taken
    | Ended
    | Lacking
    | Forsaken
    | Told
    | NodeState
)


class Errand(msgspec.Struct, frozen=True):
    """What an agent is to know before it starts."""

    parts: list[InputPart]
    marks: list[bytes]  # of the parts: what tells that a file of a node is the driver's (see `files.input.carried`)
    origins: list[list[InputFile]]  # of each part: the objects whose bytes it has, one behind the other
    carry: bool  # the parts are carried in any case
    memory: float  # as machine.memory
    min_free_mb: int | str  # as machine.min_free_mb


class Hello(msgspec.Struct, frozen=True):
    """What an agent says of itself once it is up."""

    pid: int
    moment: float  # CLOCK_MONOTONIC
    boot: str  # which start of which machine; empty where it is not known
    seen: list[bool]  # which of the parts the node reads itself


class Round(msgspec.Struct, frozen=True):
    """What a round brings to the driver. As one value of bytes, for Ray copies those once and all others thrice."""

    moment: float  # CLOCK_MONOTONIC of the node
    items: list[Up]


# Of large files in one message. Each is in memory several times over on its way, and what the allocator keeps of a
# thread's memory is a multiple of the largest piece that was ever freed there.
PIECE_BYTES = 1 << 20

encode = msgspec.msgpack.Encoder().encode
to_agent: msgspec.msgpack.Decoder[list[Down]] = msgspec.msgpack.Decoder(list[Down])
to_driver: msgspec.msgpack.Decoder[Round] = msgspec.msgpack.Decoder(Round)
