(function_declaration name: (identifier) @name body: (_) @body) @leaf
(method_declaration
  receiver: (parameter_list (parameter_declaration type: [
    (type_identifier) @owner (pointer_type (type_identifier) @owner)
    (generic_type type: (type_identifier) @owner) (pointer_type (generic_type type: (type_identifier) @owner))]))
  name: (field_identifier) @name body: (_) @body) @leaf
(source_file (type_declaration (type_spec name: (type_identifier) @name
  type: (interface_type "{" @body)) @scope) (#set! "prefix" "type "))
(source_file (type_declaration (type_spec name: (type_identifier) @name
  type: (struct_type (field_declaration_list) @body)) @leaf) (#set! "prefix" "type "))
(source_file (type_declaration (type_spec name: (type_identifier) @name) @leaf) (#set! "prefix" "type "))
(source_file (type_declaration (type_alias name: (type_identifier) @name) @leaf) (#set! "prefix" "type "))
(method_elem name: (field_identifier) @name) @leaf
(source_file (const_declaration (const_spec name: (identifier) @name "=" @body) @constant) (#set! "prefix" "const "))
(source_file (const_declaration (const_spec name: (identifier) @name) @constant) (#set! "prefix" "const "))

(comment) @noise

(call_expression function: (identifier) @reference)
(call_expression function: (selector_expression operand: (_) @object field: (field_identifier) @member))
(type_identifier) @reference
(selector_expression field: (field_identifier) @capitalized)
