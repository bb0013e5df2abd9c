(class_declaration name: (_) @name body: (_) @body) @scope
(interface_declaration name: (_) @name body: (_) @body) @scope
(annotation_type_declaration name: (_) @name body: (_) @body) @scope
(enum_declaration name: (_) @name body: (_) @body) @scope
(record_declaration name: (_) @name body: (_) @body) @scope
(method_declaration name: (_) @name body: (_) @body) @leaf
(method_declaration name: (_) @name) @leaf
(constructor_declaration name: (_) @name body: (_) @body) @leaf
(field_declaration (modifiers "static" "final") declarator: (variable_declarator name: (_) @name "=" @body)) @constant

(line_comment) @noise
(block_comment) @noise
(marker_annotation) @noise
(annotation) @noise

(method_invocation !object name: (identifier) @reference)
(method_invocation object: (_) @object name: (identifier) @member)
(type_identifier) @reference
(identifier) @capitalized
