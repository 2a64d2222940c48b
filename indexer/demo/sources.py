"""The four texts the bundled model is made of, each read from where Debian or Python puts it.

Kept apart from the training because it knows file formats and nothing else: a reader takes a
folder and yields documents of natural size (a chapter, a page of glosses, a piece of a module, a
passage of a novel).
"""

import ast
import re
import struct
import subprocess
import sysconfig
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import batched as _batched  # noqa: F401
from pathlib import Path
