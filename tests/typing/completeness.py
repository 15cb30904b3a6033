"""How much of the public interface has a known type, by pyright; fails below the floor."""

from __future__ import annotations

import json
import subprocess
import sys

FLOOR = 0.99


def main() -> None:
    done = subprocess.run(
        ["pyright", "--verifytypes", "careflow_storage", "--ignoreexternal", "--outputjson"],
        capture_output=True,
        text=True,
        check=False,  # it fails below 100%
    )
    found = json.loads(done.stdout)["typeCompleteness"]
    score = found["completenessScore"]
    for symbol in found["symbols"]:
        reasons = [each["message"] for each in symbol["diagnostics"]]
        if not symbol["isTypeKnown"] and any("missing type annotation" in each for each in reasons):
            print("without an annotation:", symbol["name"])
    print(f"{score:.1%} of the public symbols have a known type; the floor is {FLOOR:.0%}.")
    sys.exit(score < FLOOR)


if __name__ == "__main__":
    main()
