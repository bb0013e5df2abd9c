; In C++ a struct has methods; here it has none.
(struct_specifier name: (type_identifier) @name body: (_) @body) @leaf
