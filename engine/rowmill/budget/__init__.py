"""What the whole run may spend: `allowances` hands it out at the supervisor's end, a `purse` spends it in each worker.

The supervisor keeps an `account` for each worker process. What a request will cost is said by an `estimate`, before
its reply says what it did. `amounts` is the arithmetic of three things at a time: requests, tokens, dollars.
"""
