"""Who trains what is missing, where, and who writes it down."""
