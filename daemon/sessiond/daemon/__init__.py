"""The daemon: `server` is its face, `sessions` its memory, `workspace` its eyes, `engine` its muscle."""
