"""Makes a run's weights the shipped ones: `python -m huref_lab.generator.release RUN_FOLDER`, in a source checkout.

Copies the weights and pins their digest, which stands in one place, `huref.portraits.generator.file.SHIPPED_SHA256`.
The model card beside them is then brought up to date by hand, and the golden picture by the command in
`tests/portraits/test_image.py`.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

from huref.errors import UsageError
from huref.files.atomic import write_atomically
from huref.portraits.generator import file as weights_file

PIN = re.compile(r'^SHIPPED_SHA256 = "[^"]*"$', re.MULTILINE)


def release(weights: Path, shipped: Path = weights_file.SHIPPED, source: Path = Path(weights_file.__file__)) -> str:
    """Copies `weights` to `shipped` and writes their digest into `source`.

    Returns:
        The SHA-256 of the file, in hexadecimal.

    Raises:
        WeightsError: not a generator's weights.
        UsageError: `source` has no line with the pinned digest.
    """
    weights_file.load_generator(weights)
    data, text = weights.read_bytes(), source.read_text()
    digest = hashlib.sha256(data).hexdigest()
    pinned, count = PIN.subn(f'SHIPPED_SHA256 = "{digest}"', text)
    if count != 1:
        raise UsageError("no place to pin the digest", where=str(source), expected=PIN.pattern, got=f"{count} lines")
    write_atomically(shipped, data)
    write_atomically(source, pinned.encode())
    return digest


if __name__ == "__main__":
    print(release(Path(sys.argv[1]) / "generator.safetensors"))
