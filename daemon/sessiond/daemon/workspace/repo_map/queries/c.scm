(function_definition declarator: [
  (function_declarator declarator: (identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))
  (pointer_declarator declarator: (pointer_declarator declarator: (function_declarator declarator: (identifier) @name)))
  ] body: (compound_statement) @body) @leaf
(declaration declarator: [
  (function_declarator declarator: (identifier) @name)
  (pointer_declarator declarator: (function_declarator declarator: (identifier) @name))
  (pointer_declarator declarator: (pointer_declarator declarator: (function_declarator declarator: (identifier) @name)))
  ]) @leaf
(union_specifier name: (type_identifier) @name body: (_) @body) @leaf
(enum_specifier name: (type_identifier) @name body: (_) @body) @leaf
(type_definition declarator: (type_identifier) @name) @leaf
(type_definition declarator: (function_declarator
  declarator: (parenthesized_declarator (pointer_declarator declarator: (type_identifier) @name)))) @leaf
; A macro without a value guards a header.
(preproc_def name: (identifier) @name value: (_) @body) @leaf
(preproc_function_def name: (identifier) @name value: (_) @body) @leaf

(comment) @noise

(call_expression function: (identifier) @reference)
(call_expression function: (field_expression argument: (_) @object field: (field_identifier) @member))
(type_identifier) @reference
(identifier) @capitalized
