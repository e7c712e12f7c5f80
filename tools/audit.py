"""Known vulnerabilities of the packages in this environment, by pip-audit.

The exit code is 1 if there are any. Where the index does not answer for any package, nothing was audited: that is said,
and the exit code is 0, so that builds without a network pass.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECONDS = 600


def findings(audited: list[dict[str, Any]]) -> list[str]:
    """A line for each vulnerability in the dependencies that pip-audit reports."""
    return [
        f"{package['name']} {package['version']}: {found['id']}, fixed in "
        + (", ".join(found["fix_versions"]) or "no version")
        for package in audited
        for found in package.get("vulns", ())
    ]


def main() -> int:
    """Run pip-audit on the environment of this interpreter."""
    command = [sys.executable, "-m", "pip_audit", "--skip-editable", "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        audited = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("the package index does not answer: nothing was audited")
        return 0
    answered = [package for package in audited if "skip_reason" not in package]
    if not answered:
        print(f"the package index knows none of {len(audited)} packages: nothing was audited")
        return 0
    lines = findings(answered)
    print(
        "\n".join([*lines, f"{len(answered)} of {len(audited)} packages audited, {len(lines)} known vulnerabilities"])
    )
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
