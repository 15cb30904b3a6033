"""``python -m benchmarks.bulk``: copying a bucket to another server, side by side.

Two SeaweedFS servers run on this machine. Every copier is a program that copies all objects of the
one to the other, which is new for each, and then once more, when there is nothing left to do.
"""
