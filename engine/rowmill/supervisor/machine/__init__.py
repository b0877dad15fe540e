"""The resources of the machine: what is checked before a run starts, and what is watched while it goes.

`preflight` looks once at descriptors, ports and disks, and raises the limit of the first. `monitor` looks once a second
at memory, disks and the workers' loops. They say what should be done; the supervisor does it.
"""
