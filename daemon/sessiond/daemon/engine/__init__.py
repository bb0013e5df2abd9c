"""One loaded model in a process of its own: the token tree, the scheduler, and what stands between it and us."""
