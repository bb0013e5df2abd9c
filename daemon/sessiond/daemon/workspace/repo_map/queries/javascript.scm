(class_declaration name: (_) @name body: (_) @body) @scope
(function_declaration name: (_) @name body: (_) @body) @leaf
(generator_function_declaration name: (_) @name body: (_) @body) @leaf
(method_definition name: (_) @name body: (_) @body) @leaf

; A function or a class that is the value of a name, and other values: those that are exported, or all in capitals.
(program (lexical_declaration (variable_declarator name: (identifier) @name
  value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])) @leaf)
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name
  value: [(arrow_function body: (_) @body) (function_expression body: (_) @body)])) @leaf))
(program (lexical_declaration (variable_declarator name: (identifier) @name value: (class body: (_) @body))) @scope)
(program (export_statement
  (lexical_declaration (variable_declarator name: (identifier) @name value: (class body: (_) @body))) @scope))
(program (lexical_declaration (variable_declarator name: (identifier) @name "=" @body)) @constant)
(program (export_statement (lexical_declaration (variable_declarator name: (identifier) @name "=" @body)) @leaf))
(program (expression_statement (assignment_expression left: (member_expression property: (property_identifier) @name)
  right: [(arrow_function body: (_) @body) (function_expression body: (_) @body)]) @leaf))

(comment) @noise
(decorator) @noise

(call_expression function: (identifier) @reference)
(call_expression function: (member_expression object: (_) @object property: (property_identifier) @member))
(new_expression constructor: [(identifier) @reference (member_expression property: (property_identifier) @reference)])
(import_specifier name: (identifier) @reference)
(import_clause (identifier) @reference)
(shorthand_property_identifier_pattern) @reference
(member_expression property: (property_identifier) @capitalized)
