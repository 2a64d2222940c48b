"""JSON that someone else wrote, whatever is in it: one kind of error."""

from __future__ import annotations

import json
from typing import Any


def parsed(text: str | bytes) -> Any:
    """The value that a text of JSON gives. Raises ValueError for what is not JSON, also for lists
    inside each other without end and for whole numbers of thousands of digits."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 (byte {error.start})") from None
    except RecursionError:
        raise ValueError("it has lists or objects inside each other without end") from None
    except ValueError:  # Python's advice is how to read it all the same
        raise ValueError("it has a whole number of thousands of digits") from None
