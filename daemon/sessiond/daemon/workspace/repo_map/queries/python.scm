(class_definition name: (identifier) @name body: (_) @body) @scope
(function_definition name: (identifier) @name body: (_) @body) @leaf
(module (type_alias_statement left: (type) @name) @leaf)
(module (expression_statement
  (assignment left: (identifier) @name "=" @body) @constant))

(comment) @noise

(call function: (identifier) @reference)
(call function: (attribute object: (_) @object attribute: (identifier) @member))
(attribute attribute: (identifier) @capitalized)
(import_from_statement name: (dotted_name (identifier) @reference))
(import_from_statement name: (aliased_import name: (dotted_name (identifier) @reference)))
(class_definition superclasses: (argument_list (identifier) @reference))
(decorator (identifier) @reference)
(type (identifier) @reference)
(generic_type (identifier) @reference)
