(abstract_class_declaration name: (_) @name body: (_) @body) @scope
(interface_declaration name: (_) @name body: (_) @body) @scope
(internal_module name: (_) @name body: (_) @body) @space
(module name: (_) @name body: (_) @body) @space
(enum_declaration name: (_) @name body: (_) @body) @leaf
(type_alias_declaration name: (_) @name) @leaf
(function_signature name: (_) @name) @leaf
(method_signature name: (_) @name) @leaf
(abstract_method_signature name: (_) @name) @leaf

(type_identifier) @reference
(extends_clause value: [(identifier) @reference (member_expression property: (property_identifier) @reference)])
