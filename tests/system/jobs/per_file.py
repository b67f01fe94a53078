"""Writes half of its output, reads its input, and does with it what that says."""

import sys
import time

source, target, witness = sys.argv[1:]
with open(witness, "a") as file:
    file.write(source.rpartition("/")[2] + "\n")
with open(target, "w") as output, open(source) as text:
    output.write("half")
    output.flush()
    word = text.read()
    print("the word is", word, flush=True)
    if word == "slow":
        time.sleep(600)
    if word == "broken":
        sys.exit("this is no table")
    output.write(" and half")
