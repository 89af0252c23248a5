"""Load while processes are killed and MongoDB misbehaves; afterwards, every event is accounted for.

`python -m tests.chaos --seed 1 --kills 200 --events 100000`. What is killed when, which fault it
meets and what the load is made of follow from the seed; when exactly a blow falls does not.
"""
