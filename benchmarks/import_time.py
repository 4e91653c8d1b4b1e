"""How long `import xp_xent` takes beyond `import numpy`: medians over fresh interpreters.

python benchmarks/import_time.py --runs 15
"""

import argparse
import statistics
import subprocess
import sys
import tempfile

PROGRAM = """
from time import perf_counter
start = perf_counter()
import numpy
middle = perf_counter()
import xp_xent
print(middle - start, perf_counter() - start)
"""


def measure(folder: str) -> tuple[float, float]:
    """Import once; give the milliseconds for NumPy alone and for NumPy and xp_xent."""
    run = subprocess.run(
        # From an empty folder: in the repository's root, xp_xent/ would shadow the installed one.
        [sys.executable, "-c", PROGRAM],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    numpy_alone, both = map(float, run.stdout.split())
    return 1e3 * numpy_alone, 1e3 * both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15, help="fresh interpreters to start")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        measure(folder)  # writes the byte code and warms the file cache
        times = [measure(folder) for _ in range(runs)]
    print(f"median of {runs} imports, in milliseconds")
    print(f"  numpy              {statistics.median(alone for alone, _ in times):7.1f}")
    print(f"  numpy and xp_xent  {statistics.median(both for _, both in times):7.1f}")
    print(f"  difference         {statistics.median(both - alone for alone, both in times):7.1f}")


if __name__ == "__main__":
    main()
