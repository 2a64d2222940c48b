"""What a visitor typed into the form for steering, and the request it means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from app.errors import Invalid
from app.live.steering.schemas import USUAL_NEW, AlsoSteered, SteeringText

EVERYWHERE, TEXT, LAST, GENERATED = "everywhere", "text", "last", "generated"
WHERE = {
    EVERYWHERE: "every token",
    TEXT: "the text’s tokens",
    LAST: "the text’s last token",
    GENERATED: "generated tokens",
}
"""The choices of where to steer, and their words."""
_ALSO = re.compile(r"(\d+)/(\d+)\s*[×x*=: ]\s*([+−-]?\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Typed:
    """The fields of the form, as they were sent."""

    text: str = ""
    strength: str = "2"
    where: str = EVERYWHERE
    positions: str = ""
    also: str = ""
    new_tokens: str = str(USUAL_NEW)
    seed: str = "0"
    temperature: str = "1"

    def request(self) -> SteeringText:
        """The request it means. Raises Invalid for what cannot be read."""
        if self.where not in WHERE:
            raise Invalid(f"Steering can be at {', '.join(WHERE)}: {self.where!r} is none of them.")
        positions: list[int] | None = {LAST: [-1], GENERATED: []}.get(self.where)
        if self.positions.strip():
            positions = _numbers(self.positions)
        try:
            return SteeringText.model_validate(
                {
                    "text": self.text,
                    "strength": self.strength.replace("−", "-"),
                    "also": _also(self.also),
                    "positions": positions,
                    "generated": self.where in (EVERYWHERE, GENERATED),
                    "new_tokens": self.new_tokens,
                    "seed": self.seed,
                    "temperature": self.temperature,
                }
            )
        except ValidationError as error:
            first = error.errors()[0]
            field = str(first["loc"][0]).replace("_", " ")
            raise Invalid(
                f"The {field} {first['input']!r} cannot be used: {first['msg']}."
            ) from None


def typed_of(fields: Mapping[str, str]) -> Typed:
    """The fields of a form that was sent; what it lacks is at its default."""
    known = {name: fields[name] for name in Typed.__dataclass_fields__ if name in fields}
    return Typed(**known)


def _numbers(text: str) -> list[int]:
    """Positions such as `3, 5-8`. Raises Invalid."""
    found: list[int] = []
    for part in re.split(r"[,\s]+", text.strip()):
        match = re.fullmatch(r"(\d+)(?:[-–](\d+))?", part)
        first, last = (0, -1) if match is None else (int(match[1]), int(match[2] or match[1]))
        if match is None or last < first or last >= 1 << 20:
            raise Invalid(f"The position {part!r} cannot be read: write numbers such as 3, 5-8.")
        found += range(first, last + 1)
    return found


def _also(text: str) -> list[AlsoSteered]:
    """Other units such as `3/17 × 2, 3/20 × -1`. Raises Invalid."""
    units = []
    for part in filter(None, map(str.strip, text.split(","))):
        match = _ALSO.fullmatch(part)
        if match is None:
            raise Invalid(
                f"The unit {part!r} cannot be read: write layer/unit × strength, such as 3/17 × 2."
            )
        strength = float(match[3].replace("−", "-"))
        units.append(AlsoSteered(layer=int(match[1]), neuron=int(match[2]), strength=strength))
    return units
