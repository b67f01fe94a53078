"""`python -m benchmarks [name ...]`: all of them, or those that are named."""

from __future__ import annotations

import argparse

from benchmarks import (
    chain_overhead,
    dataproc_chain,
    import_cost,
    kubernetes_chain,
    kubernetes_files,
    kubernetes_waits,
    waiting,
)

MODULES = (import_cost, chain_overhead, waiting, kubernetes_chain, kubernetes_files, kubernetes_waits, dataproc_chain)
BENCHMARKS = {module.NAME: module for module in MODULES}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(BENCHMARKS)} (default: all)")
    for module in BENCHMARKS.values():
        module.add_arguments(parser)
    options = parser.parse_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are: {', '.join(BENCHMARKS)}")
    for name, module in BENCHMARKS.items():
        if not options.names or name in options.names:
            print(f"== {name}", flush=True)
            module.main(options)


if __name__ == "__main__":
    main()
