"""How often the rules of evidence err: simulate every table of docs/evidence.md anew and write it there.

    python benchmarks/calibration.py [table ...]

Takes minutes on one core. The numbers are those of `pytest -m slow tests/scoring/calibration`.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "scoring"))

from calibration.figures import SIGMAS
from calibration.page import PAGE, TABLES, replaced


def main(names: list[str]) -> None:
    unknown = set(names) - {table.name for table in TABLES}
    if unknown:
        sys.exit(f"There is no table {', '.join(sorted(unknown))}; there are {', '.join(table.name for table in TABLES)}.")
    distances = []
    for table in TABLES:
        if names and table.name not in names:
            continue
        print(f"\n{table.name}")
        lines = table.head()
        for case in table.cases:
            found = table.run(case)
            lines.append(table.line(case, found))
            away = {name: case.distance(name, found[name]) for name, design in case.design.items() if design}
            distances += away.values()
            print(lines[-1], *(f"<- {name}: {d:.1f} errors away" for name, d in away.items() if d > SIGMAS), flush=True)
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), table.name, lines), encoding="utf-8")
    size = math.sqrt(sum(d**2 for d in distances) / max(len(distances), 1))
    far = sum(d > SIGMAS for d in distances)
    print(f"\n{len(distances)} design figures; {far} lie more than {SIGMAS:g} errors away; root mean square {size:.2f} errors")


if __name__ == "__main__":
    main(sys.argv[1:])
