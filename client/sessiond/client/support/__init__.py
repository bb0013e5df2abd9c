"""The support bundle: what somebody who helps needs to know, and nothing that is anybody's.

Everything in it is let in by name, by type or by shape. What is not known to be harmless stays out.
"""
