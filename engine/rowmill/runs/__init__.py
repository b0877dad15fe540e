"""One run over all its sessions: what is checked before, a session, a trial, `cancel`, the plan of its cost."""
