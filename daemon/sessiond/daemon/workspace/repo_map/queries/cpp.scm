; Constructors with initializers: what they initialize is no signature.
(function_definition declarator: (function_declarator declarator: (_) @name) (field_initializer_list) @body) @leaf
(namespace_definition name: (_) @name body: (_) @body) @space
(class_specifier name: (type_identifier) @name body: (_) @body) @scope
(struct_specifier name: (type_identifier) @name body: (_) @body) @scope
(function_definition declarator: [
  (function_declarator declarator: [
    (qualified_identifier) @name (field_identifier) @name (operator_name) @name (destructor_name) @name])
  (_ (function_declarator declarator: [(qualified_identifier) @name (field_identifier) @name (operator_name) @name]))
  (reference_declarator (function_declarator declarator: (identifier) @name))
  ] body: (compound_statement) @body) @leaf
(field_declaration declarator: [
  (function_declarator declarator: (field_identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (field_identifier) @name))
  (reference_declarator (function_declarator declarator: (field_identifier) @name))]) @leaf
(alias_declaration name: (type_identifier) @name) @leaf
(concept_definition name: (identifier) @name) @leaf

(call_expression function: (qualified_identifier name: (identifier) @reference))
