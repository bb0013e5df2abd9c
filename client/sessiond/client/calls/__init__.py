"""All that can be asked of the daemon: one function for each rpc of the contract, for both faces of the client.

Each takes what a user gives, in any of the forms of `sessiond.client.requests`, and returns the call: where it goes, its
request, and what of an answer is handed on. Raises InvalidInput for a value that the request cannot hold.
"""
