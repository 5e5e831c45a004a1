"""Logs that the tests make up: clean ones, ones with a planted fault, and the files that trainers
would have written of them."""
