"""How stored messages are moved on: which of them next, with what is left of their lives, each until its confirm."""
