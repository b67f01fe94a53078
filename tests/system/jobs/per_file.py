"""Writes half of its output, reads its input, and does with it what that says."""

import sys
import time

source, target, witness = sys.argv[1:]


def note(file: str, line: str) -> None:
    with open(file, "a") as lines:
        lines.write(line + "\n")


def begun() -> int:
    with open(f"{witness}.times") as lines:
        return lines.read().count("begins")


def work(word: str) -> None:
    if word == "slow":
        time.sleep(600)
    if word == "broken":
        sys.exit("this is no table")
    if word == "not alone":  # until the next one has begun; then long enough for a third one, which there must not be
        until, before = time.monotonic() + 60, begun()
        while begun() == before and time.monotonic() < until:
            time.sleep(0.1)
    if word in ("not alone", "long"):
        time.sleep(3)


note(witness, source.rpartition("/")[2])
note(f"{witness}.times", "begins")
try:
    with open(target, "w") as output, open(source) as text:
        output.write("half")
        output.flush()
        word = text.read()
        print("the word is", word, flush=True)
        work(word)
        output.write(" and half")
finally:
    note(f"{witness}.times", "ends")
