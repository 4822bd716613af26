"""Fetch the documentation pages' scripts from their npm packages anew, or compare what is there with its hashes.

`python scripts/vendor.py` compares; `python scripts/vendor.py --fetch` takes the versions that vendored.json names,
writes the files and their hashes. Needs npm for fetching only.
"""

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

STATIC = Path(__file__).parents[1] / "service" / "api" / "static"
LIST = STATIC / "vendored.json"


def main() -> int:
    """The exit code: 1 where a file is not what its hash says."""
    rows = json.loads(LIST.read_text())
    if "--fetch" in sys.argv:
        for row in rows:
            (STATIC / row["file"]).write_bytes(fetch(f"{row['package']}@{row['version']}", row["path"]))
            row["sha256"] = digest(row["file"])
        LIST.write_text(json.dumps(rows, indent=2) + "\n")
    wrong = [row["file"] for row in rows if digest(row["file"]) != row["sha256"]]
    sys.stdout.write("".join(f"{name} is not what vendored.json says\n" for name in wrong))
    return 1 if wrong else 0


def fetch(package: str, path: str) -> bytes:
    """One file of a published npm package."""
    with TemporaryDirectory() as folder:
        subprocess.run(["npm", "pack", "--silent", package], cwd=folder, check=True)
        with tarfile.open(next(Path(folder).glob("*.tgz"))) as archive:
            found = archive.extractfile(f"package/{path}")
            assert found is not None
            return found.read()


def digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
