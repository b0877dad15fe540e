"""Workers on the machines of a Ray cluster.

The supervisor and the run directory stay where the command runs, on the driver. On each node one agent, a Ray actor,
starts ordinary worker processes and carries what goes between them and the driver: messages, the bytes of the input
that they read, and what they have written to their checkpoints. A group of records counts once it is on the driver's
disk; so nothing of a node is needed once the node is gone.

driver     the supervisor's end: which nodes there are, one link to each
agent      a node's end: its workers, and the directory in which they work
"""
