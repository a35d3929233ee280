"""How vectors are encoded on the wire: `compression`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

from fedray.config.schema.parts import Compressor
from fedray.parts.compression.nothing import Nothing
from fedray.parts.fields import Doc, Strict


@dataclass(frozen=True, kw_only=True)
class Compression(Strict):
    """How vectors are encoded on the wire; messages take the bytes and the time of their code.

    up: the update, and whatever a method sends besides, each with a memory of its own. down: the
    model, and whatever is sent with it; clients train from what they decode.
    """

    up: Annotated[Compressor, Doc("from the clients to the server")] = field(
        default_factory=Nothing
    )
    down: Annotated[Compressor, Doc("from the server to the clients")] = field(
        default_factory=Nothing
    )
    down_of: Annotated[
        Literal["model", "change"],
        Doc(
            "model: every model by itself, for quantisers; change: what it differs by from the "
            "model that clients have, for any code, where all clients take part in every round"
        ),
    ] = "model"
