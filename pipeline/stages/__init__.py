"""The stages, one a file, called as operators write them."""
