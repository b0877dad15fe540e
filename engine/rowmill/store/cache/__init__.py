"""No request twice: who asks for what in a run, how it ended, and the replies that are kept for later runs."""
