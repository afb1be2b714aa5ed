"""HTTP over uvicorn: one connection, its requests and their answers, and the bounds on all of them."""
