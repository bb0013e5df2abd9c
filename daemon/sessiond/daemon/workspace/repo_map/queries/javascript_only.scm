; What the grammar of TypeScript names differently.
(class_heritage [(identifier) @reference (member_expression property: (property_identifier) @reference)])
