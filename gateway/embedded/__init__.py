"""The backend of small installations: claims, quotas, outbox and heartbeats in one SQLite file, for one machine."""
