(mod_item name: (_) @name body: (_) @body) @space
(trait_item name: (_) @name body: (_) @body) @scope
(impl_item type: [(type_identifier) @name (generic_type type: (type_identifier) @name)] body: (_) @body) @scope
(function_item name: (_) @name body: (_) @body) @leaf
(function_signature_item name: (_) @name) @leaf
(struct_item name: (_) @name body: (field_declaration_list) @body) @leaf
(struct_item name: (_) @name) @leaf
(union_item name: (_) @name body: (_) @body) @leaf
(enum_item name: (_) @name body: (_) @body) @leaf
(type_item name: (_) @name) @leaf
(const_item name: (_) @name "=" @body) @leaf
(static_item name: (_) @name "=" @body) @leaf
(macro_definition name: (_) @name "{" @body) @leaf
(macro_definition name: (_) @name "(" @body) @leaf

(line_comment) @noise
(block_comment) @noise

(call_expression function: [(identifier) @reference (scoped_identifier name: (identifier) @reference)])
(call_expression function: (field_expression value: (_) @object field: (field_identifier) @member))
(macro_invocation macro: (identifier) @reference)
(use_declaration argument: [(identifier) @reference (scoped_identifier name: (identifier) @reference)])
(use_list [(identifier) @reference (scoped_identifier name: (identifier) @reference)])
(type_identifier) @reference
(identifier) @capitalized
