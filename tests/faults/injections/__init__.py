"""The faults, a module for each kind: each breaks one thing under load, mends it, and notes what that may excuse."""
