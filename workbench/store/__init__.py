"""Result files: written once, checksummed, never changed."""
