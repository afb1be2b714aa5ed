"""The store on Redis: claims and quotas as atomic scripts, one for each step of the protocol.

Redis 5 or later. It must not evict (``maxmemory-policy noeviction``): an evicted claim is a forgotten one.
"""
