"""HTTP services that tools call: which endpoint a request goes to, what is tried again, and what is learnt from it.

A library of its own; nothing here knows the worker's machinery.
"""
