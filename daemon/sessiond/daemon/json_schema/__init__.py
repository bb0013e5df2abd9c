"""JSON schemas as grammars: every text that the grammar allows is valid under the schema.

Not every valid text is allowed: members come in the order of the schema, and there is little space between them. What cannot
be kept is refused by name, and never passed over.
"""

from sessiond.daemon.json_schema.convert import to_gbnf
from sessiond.daemon.json_schema.faults import SchemaError

__all__ = ["SchemaError", "to_gbnf"]
