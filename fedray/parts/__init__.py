"""The exchangeable parts of an algorithm: a record of parameters with its mathematics.

A part is a frozen record: its fields are keys of a configuration, its methods are pure
functions of vectors. It lives in one file, and one line in its folder's table names it, which
puts it into the schema, the reference page, `fedray algorithms` and the conformance tests.
"""
