"""Sessions: what each client's context is, what it may do next, and why something was computed again."""
