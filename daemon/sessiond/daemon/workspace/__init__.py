"""Files to segments: select, read, order. `assemble.assemble` is the way in.

Everything here is synchronous and reads the disk; the caller runs it in a thread.
"""
