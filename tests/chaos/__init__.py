"""Load while things break; afterwards, everything that was promised is accounted for.

`python -m tests.chaos counting --seed 1 --kills 200 --events 100000` runs one scenario, without a
name all of them run. What is killed when, which fault it meets and what the load is made of follow
from the seed; when exactly a blow falls does not.
"""
