"""The commit that a result was measured at."""

import subprocess


def commit() -> str:
    """Its 40 digits, with `-dirty` where the tree has changes that are not committed."""
    asked = ["git", "describe", "--exclude=*", "--always", "--dirty", "--abbrev=40"]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
